# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest
from thermocline_nova.capacity import MIB, Capacity, Offer, Pressure, Rules, storing_cost, yielded_bytes
from thermocline_nova.daemon import Figures, HostFigures

_RULES = Rules(safety_margin=0.1, max_ratio=2.0, headroom_mb=1000, hysteresis_mb=100)
LIMITED = Figures(state="attached", memory=512 * MIB, resident=100 * MIB, staged=10 * MIB, cold=300 * MIB, store=80 * MIB, frozen=0,
                   metadata=2 * MIB, used=192 * MIB, limit=200 * MIB, limit_met=True, stall_ratio=0.0, stall=0, mechanism="move",
                   max_stall=0.0, min_resident=0, priority=100, allotment=0, running=True)
_PROACTIVE = dataclasses.replace(LIMITED, limit=0)
_FRESH = dataclasses.replace(LIMITED, resident=60 * MIB, staged=0, cold=0, store=0, metadata=0, used=60 * MIB, limit=100 * MIB)


def _change(figures, **values):
    return dataclasses.replace(figures, **values)


def _host(*domains, budget_mb=None):
    return HostFigures(dict(enumerate(domains)), None if budget_mb is None else budget_mb * MIB)


@pytest.mark.parametrize("figures, mib", [
    (LIMITED, 312),  # all above the limit
    (_change(LIMITED, limit_met=False), 0),
    (_change(LIMITED, used=210 * MIB), 302),  # a moment above its limit
    (_change(LIMITED, state="detached"), 0),
    (_change(LIMITED, state="failed"), 0),
    (_PROACTIVE, 218),  # what is stored, less what that costs
    (_change(_PROACTIVE, frozen=50 * MIB), 268),
    (_change(_PROACTIVE, cold=0, store=0), 0),  # memory that was never touched
    (_change(_PROACTIVE, store=400 * MIB), 0),
    (_change(_PROACTIVE, cold=900 * MIB), 320),  # never more than it was sold for
    (_change(LIMITED, allotment=200 * MIB), 218),  # the limit is the budget's, which moves: as without one
    (_change(LIMITED, allotment=300 * MIB), 312),  # its own is lower
    # What the store can hold of 512 MiB at what storing has cost: 1 - 240/300 of it, less 2 MiB of metadata.
    (_change(LIMITED, store=240 * MIB), 100),
    (_change(LIMITED, store=300 * MIB), 0),  # it does not compress at all
    (_change(LIMITED, store=330 * MIB), 0),
    (_change(LIMITED, store=240 * MIB, frozen=112 * MIB), 190),  # what is on a disk costs nothing: 112 and a fifth of 400
    (_FRESH, 341),  # nothing stored yet: two thirds, as is assumed
    (_change(_FRESH, cold=1 * MIB, store=1 * MIB), 341),  # a first page says little
])
def test_what_a_domain_yields(figures, mib):
    assert yielded_bytes(figures) // MIB == mib


def test_what_the_other_stores_take_is_what_a_fresh_one_will():
    assert storing_cost([LIMITED, _FRESH]) == pytest.approx(80 / 300)
    assert yielded_bytes(_FRESH, 0.5) == 256 * MIB
    assert storing_cost([_FRESH]) == storing_cost([]) == pytest.approx(1 / 3)
    assert storing_cost([_change(LIMITED, cold=4 * MIB)]) == pytest.approx(1 / 3)
    badly = _change(LIMITED, store=270 * MIB)  # yields 49 MiB; a fresh one beside it 51
    assert Capacity(_RULES).offer(8000, 4000, _host(badly, _FRESH)).total == 8000 + int((49.2 + 51.2) * 0.9)


def test_without_overcommit_it_is_the_hosts_memory():
    assert Capacity(_RULES).offer(8000, 4000, _host()) == Offer(8000, False, 0)


def test_a_margin_is_kept():
    assert Capacity(_RULES).offer(8000, 4000, _host(*[LIMITED] * 10)).total == 8000 + 3120 * 9 // 10


def test_it_is_never_more_than_the_ratio():
    assert Capacity(_RULES).offer(1000, 4000, _host(*[LIMITED] * 10)).total == 2000


def test_pressure_shrinks_it_then_closes_the_host_then_moves_servers():
    capacity = Capacity(_RULES)
    host = _host(*[LIMITED] * 10)
    assert capacity.offer(8000, 1000, host) == Offer(10808, Pressure.NONE, 0)
    assert capacity.offer(8000, 700, host) == Offer(10508, Pressure.SHRINKS, 300)
    assert capacity.offer(8000, 500, host) == Offer(10308, Pressure.SHRINKS, 500)
    assert capacity.offer(8000, 250, host) == Offer(10058, Pressure.FULL, 750)
    assert capacity.offer(8000, 249, host).pressure == Pressure.MOVES
    assert capacity.offer(8000, 249, host).full
    assert not capacity.offer(8000, 500, host).full


def test_a_host_is_closed_before_servers_are_moved():
    capacity = Capacity(_RULES)
    assert capacity.offer(8000, 0, _host()).pressure == Pressure.FULL
    assert capacity.offer(8000, 0, _host()).pressure == Pressure.MOVES
    capacity.offer(8000, 1000, _host())
    assert capacity.offer(8000, 0, _host()).pressure == Pressure.FULL


def test_the_floor_is_the_hosts_memory():
    assert Capacity(_RULES).offer(8000, 0, _host(LIMITED)) == Offer(8000, Pressure.FULL, 1000)
    assert Capacity(_RULES).offer(8000, 4000, _host(LIMITED, budget_mb=100)).total == 8000


def test_a_budget_is_all_that_there_is_for_attached_servers():
    ten = [LIMITED] * 10  # yield 3120 MiB
    assert Capacity(_RULES).offer(8000, 4000, _host(*ten, budget_mb=9000)).total == 8000 + 2808
    assert Capacity(_RULES).offer(8000, 4000, _host(*ten, budget_mb=6000)).total == 6000 + 2808
    # The others' memory is beside it; one that does not run may yet be attached.
    other = _change(LIMITED, state="detached")
    assert Capacity(_RULES).offer(8000, 4000, _host(*ten, other, budget_mb=6000)).total == 6000 + 512 + 2808
    assert Capacity(_RULES).offer(8000, 4000, _host(*ten, _change(other, running=False), budget_mb=6000)).total == 6000 + 2808


def test_small_changes_are_not_told():
    capacity = Capacity(_RULES)
    assert capacity.offer(8000, 4000, _host(LIMITED)).total == 8280
    assert capacity.offer(8000, 4000, _host(LIMITED, _change(LIMITED, limit=402 * MIB))).total == 8280  # 99 more
    assert capacity.offer(8000, 4000, _host(LIMITED, LIMITED)).total == 8561


def test_the_last_yield_is_given_back_however_small():
    capacity = Capacity(_RULES)
    small = _change(LIMITED, limit=450 * MIB)
    assert capacity.offer(8000, 4000, _host(LIMITED)).total == 8280
    assert capacity.offer(8000, 4000, _host(LIMITED, small)).total == 8280
    assert capacity.offer(8000, 4000, _host(small)).total == 8055
    assert capacity.offer(8000, 4000, _host()).total == 8000


def test_after_the_daemon_was_away_the_next_figure_counts():
    capacity = Capacity(_RULES)
    assert capacity.offer(8000, 4000, _host(LIMITED)).total == 8280
    capacity.forget()
    assert capacity.offer(8000, 4000, _host(_change(LIMITED, limit=210 * MIB))).total == 8271
