# SPDX-License-Identifier: Apache-2.0
import pytest

from vs_kernel.wake import SLICE_SECONDS, WINDOW_SLICES, first_at, slices_after, usual_speed


def slices(*speeds):
    return [((number + 1) * SLICE_SECONDS, speed) for number, speed in enumerate(speeds)]


def test_full_speed_is_reached_at_the_end_of_its_first_window():
    series = slices(*[0] * 10, *[100] * 20)
    assert first_at(series, 95) == pytest.approx((10 + WINDOW_SLICES) * SLICE_SECONDS)


def test_one_quick_slice_is_not_full_speed():
    assert first_at(slices(0, 0, 0, 0, 110, 0, 0, 0, 0, 0), 95) is None


def test_too_few_slices_say_nothing():
    assert first_at(slices(100, 100), 95) is None


def test_slices_count_from_the_lifting_and_leave_out_the_last():
    found = slices_after({"began": 10.5, "slices": [2, 4, 1]}, lifted=10.0)
    assert found == [(pytest.approx(0.5 + SLICE_SECONDS), pytest.approx(2 / SLICE_SECONDS)),
                     (pytest.approx(0.5 + 2 * SLICE_SECONDS), pytest.approx(4 / SLICE_SECONDS))]


def test_full_speed_is_what_half_of_the_windows_reach():
    counts = [100] * 40 + [50] * 10 + [300] * 10 + [9999]  # the last one is not whole
    assert usual_speed(counts) == pytest.approx(100 / SLICE_SECONDS)
