# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest
from thermocline_nova.capacity import MIB, Capacity, Offer, Rules, yielded_bytes
from thermocline_nova.daemon import Figures

_RULES = Rules(safety_margin=0.1, max_ratio=2.0, headroom_mb=1000, hysteresis_mb=100)
_LIMITED = Figures(state="attached", memory=512 * MIB, resident=100 * MIB, staged=10 * MIB, cold=300 * MIB, store=80 * MIB, frozen=0,
                   metadata=2 * MIB, used=192 * MIB, limit=200 * MIB, limit_met=True, stall_ratio=0.0, stall=0, mechanism="move",
                   max_stall=0.0, min_resident=0)
_PROACTIVE = dataclasses.replace(_LIMITED, limit=0)


def _change(figures, **values):
    return dataclasses.replace(figures, **values)


@pytest.mark.parametrize("figures, mib", [
    (_LIMITED, 312),  # all above the limit
    (_change(_LIMITED, limit_met=False), 0),
    (_change(_LIMITED, used=210 * MIB), 302),  # a moment above its limit
    (_change(_LIMITED, state="detached"), 0),
    (_change(_LIMITED, state="failed"), 0),
    (_PROACTIVE, 218),  # what is stored, less what that costs
    (_change(_PROACTIVE, frozen=50 * MIB), 268),
    (_change(_PROACTIVE, cold=0, store=0), 0),  # memory that was never touched
    (_change(_PROACTIVE, store=400 * MIB), 0),
    (_change(_PROACTIVE, cold=900 * MIB), 320),  # never more than it was sold for
])
def test_what_a_domain_yields(figures, mib):
    assert yielded_bytes(figures) == mib * MIB


def test_without_overcommit_it_is_the_hosts_memory():
    assert Capacity(_RULES).offer(8000, 4000, []) == Offer(8000, False, 0)


def test_a_margin_is_kept():
    assert Capacity(_RULES).offer(8000, 4000, [_LIMITED] * 10).total == 8000 + 3120 * 9 // 10


def test_it_is_never_more_than_the_ratio():
    assert Capacity(_RULES).offer(1000, 4000, [_LIMITED] * 10).total == 2000


def test_pressure_shrinks_it_then_closes_the_host():
    capacity = Capacity(_RULES)
    figures = [_LIMITED] * 10
    assert capacity.offer(8000, 1000, figures) == Offer(10808, False, 0)
    assert capacity.offer(8000, 700, figures) == Offer(10508, False, 1)
    assert capacity.offer(8000, 499, figures) == Offer(10307, True, 2)
    assert capacity.offer(8000, 500, figures).full is False


def test_the_floor_is_the_hosts_memory():
    assert Capacity(_RULES).offer(8000, 0, [_LIMITED]) == Offer(8000, True, 2)


def test_small_changes_are_not_told():
    capacity = Capacity(_RULES)
    assert capacity.offer(8000, 4000, [_LIMITED]).total == 8280
    assert capacity.offer(8000, 4000, [_LIMITED, _change(_LIMITED, limit=402 * MIB)]).total == 8280  # 99 more
    assert capacity.offer(8000, 4000, [_LIMITED, _LIMITED]).total == 8561


def test_the_last_yield_is_given_back_however_small():
    capacity = Capacity(_RULES)
    small = _change(_LIMITED, limit=450 * MIB)
    assert capacity.offer(8000, 4000, [_LIMITED]).total == 8280
    assert capacity.offer(8000, 4000, [_LIMITED, small]).total == 8280
    assert capacity.offer(8000, 4000, [small]).total == 8055
    assert capacity.offer(8000, 4000, []).total == 8000


def test_after_the_daemon_was_away_the_next_figure_counts():
    capacity = Capacity(_RULES)
    assert capacity.offer(8000, 4000, [_LIMITED]).total == 8280
    capacity.forget()
    assert capacity.offer(8000, 4000, [_change(_LIMITED, limit=210 * MIB)]).total == 8271
