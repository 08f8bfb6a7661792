# SPDX-License-Identifier: Apache-2.0
import pytest

from vs_kernel.saved import bytes_at


def test_memory_lies_on_the_line_between_two_points():
    assert bytes_at([(100, 1.0), (90, 0.95), (80, 0.85)], 0.9) == pytest.approx(85)


def test_a_step_that_something_else_slowed_down_does_not_count():
    assert bytes_at([(100, 1.0), (90, 0.8), (80, 0.95), (70, 0.85)], 0.9) == pytest.approx(75)


def test_a_speed_that_never_falls_tells_nothing():
    assert bytes_at([(100, 1.0), (90, 0.99)], 0.9) is None


def test_noise_above_full_speed_does_no_harm():
    assert bytes_at([(100, 1.0), (90, 1.02), (80, 0.8)], 0.9) == pytest.approx(80 + 10 * 0.1 / 0.22, abs=1)
