# SPDX-License-Identifier: Apache-2.0
import pytest

from vs_kernel.calibration import gap, matches, next_limit, pool_share

MIB = 1 << 20


def kernel_total(limit, working_set, share):
    """A model of zram: what is not resident is in the pool."""
    return limit + (working_set - limit) * share


@pytest.mark.parametrize("share", [0.0, 0.25, 0.42, 0.45])
@pytest.mark.parametrize("working_set", [150 * MIB, 200 * MIB])
def test_one_step_reaches_the_total(share, working_set):
    limit, target = 100 * MIB, 100 * MIB
    total = kernel_total(limit, working_set, share)
    limit = next_limit(limit, total, target, pool_share(total - limit, working_set - limit))
    assert matches(kernel_total(limit, working_set, share), target)


def test_what_is_used_beside_our_limit_comes_off_it():
    assert next_limit(100 * MIB, 107 * MIB, 100 * MIB) == 93 * MIB


def test_a_total_below_the_target_raises_the_limit():
    assert next_limit(50 * MIB, 90 * MIB, 100 * MIB, 0.5) == 70 * MIB


def test_no_reading_leads_to_a_limit_that_is_none():
    assert next_limit(10 * MIB, 500 * MIB, 100 * MIB, 0.4) == 8 * MIB


@pytest.mark.parametrize("pool, swapped, share", [(40, 100, 0.4), (0, 100, 0.0), (5, 0, 0.0), (-1, 100, 0.0), (100, 100, 0.85)])
def test_share_of_the_pool(pool, swapped, share):
    assert pool_share(pool, swapped) == pytest.approx(share)


def test_two_percent_match_in_both_directions():
    assert matches(98, 100) and matches(102, 100)
    assert not matches(97.9, 100) and not matches(102.1, 100)


def test_gap_says_which_way():
    assert gap(103, 100) == pytest.approx(0.03)
    assert gap(95, 100) == pytest.approx(-0.05)
