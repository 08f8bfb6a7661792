# SPDX-License-Identifier: Apache-2.0
"""Which servers Nova is asked to move away under pressure, and when."""

import dataclasses
import threading
from unittest import mock

import pytest
from thermocline_nova import mover as mover_module
from thermocline_nova.errors import MoveRefused
from thermocline_nova.mover import Mover, possible_moves

from .conftest import UUID
from .test_capacity import LIMITED as SQUEEZED
from .test_capacity import MIB

# 410 MiB to send for 192 freed; the others: 110 for 112, and 500 for 502.
SMALL = dataclasses.replace(SQUEEZED, cold=0, store=0, used=112 * MIB)
LARGE = dataclasses.replace(SMALL, resident=490 * MIB, used=502 * MIB)


def _order(**domains):
    return [move.server for move in possible_moves(domains)]


def test_the_cheapest_sends_least_for_what_it_frees():
    assert _order(a=SQUEEZED, b=SMALL, c=LARGE) == ["b", "c", "a"]
    assert possible_moves({"a": SQUEEZED})[0].sends == 410 * MIB
    assert possible_moves({"a": SQUEEZED})[0].frees == 192 * MIB


def test_what_is_on_a_disk_has_to_be_sent_too():
    frozen = dataclasses.replace(SMALL, frozen=200 * MIB)
    assert _order(a=frozen, b=SMALL) == ["b", "a"]


def test_priority_makes_dearer():
    assert _order(a=dataclasses.replace(SMALL, priority=300), b=SQUEEZED) == ["b", "a"]


@pytest.mark.parametrize("values", [{"state": "detached"}, {"state": "failed"}, {"running": False}, {"used": 0}])
def test_what_is_not_overcommitted_is_not_moved(values):
    assert _order(a=dataclasses.replace(SMALL, **values)) == []


class _Api:
    """asked: servers so far; refuse: {server: what the API says}."""

    def __init__(self):
        self.asked = []
        self.refuse = {}

    def live_migrate(self, server):
        self.asked.append(server)
        if server in self.refuse:
            raise MoveRefused(self.refuse[server])


@pytest.fixture
def api():
    return _Api()


@pytest.fixture
def sent():
    """Payloads of the notifications."""
    return []


@pytest.fixture
def clock(monkeypatch):
    """Nova's servers of this host are a, b and c; a list with the time."""
    now = [1000.0]
    monkeypatch.setattr(mover_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(mover_module.objects.InstanceList, "get_uuids_by_host", lambda _context, host: {"host": ["a", "b", "c"]}[host])
    return now


def _mover(mode, api, sent):
    return Mover(mode, 300, "host", api, mock.Mock(warn=lambda event, payload: sent.append((event, payload))))


def _relieve(mover, **domains):
    mover.relieve(domains)
    if mover._under_way:
        mover._under_way.join(10)


def test_a_dry_run_says_what_it_would_ask_for_and_does_not(api, sent, clock):
    _relieve(_mover("dry-run", api, sent), a=SQUEEZED, b=SMALL)
    assert api.asked == []
    assert sent == [("move", {"host": "host", "server": "b", "sends_mb": 110, "frees_mb": 112, "priority": 100, "outcome": "dry run",
                              "reason": ""})]


def test_off_is_off(api, sent, clock):
    _relieve(_mover("off", api, sent), a=SQUEEZED)
    assert api.asked == sent == []


def test_on_asks_nova(api, sent, clock):
    _relieve(_mover("on", api, sent), a=SQUEEZED, b=SMALL)
    assert api.asked == ["b"]
    assert sent[0][1]["outcome"] == "accepted"


def test_one_at_a_time_and_none_before_the_interval_is_over(api, sent, clock):
    mover = _mover("on", api, sent)
    _relieve(mover, b=SMALL, c=LARGE)
    clock[0] += 299
    _relieve(mover, c=LARGE)
    assert api.asked == ["b"]
    clock[0] += 1
    _relieve(mover, c=LARGE)
    assert api.asked == ["b", "c"]


def test_none_while_one_is_under_way(api, sent, clock):
    going, may_end = threading.Event(), threading.Event()

    def hang(server):
        api.asked.append(server)
        going.set()
        may_end.wait(10)
    api.live_migrate = hang
    mover = _mover("on", api, sent)
    mover.relieve({"a": SMALL})
    assert going.wait(10)
    clock[0] += 1000
    mover.relieve({"b": SMALL})
    may_end.set()
    mover._under_way.join(10)
    assert api.asked == ["a"]


def test_a_refusal_is_told_and_the_next_one_is_asked_for_before_it_again(api, sent, clock):
    api.refuse["b"] = "No valid host was found. "
    mover = _mover("on", api, sent)
    for _ in range(3):
        _relieve(mover, a=SQUEEZED, b=SMALL)
        clock[0] += 300
    assert api.asked == ["b", "a", "b"]
    assert (sent[0][1]["outcome"], sent[0][1]["reason"]) == ("refused", "No valid host was found. ")
    mover.rest()
    _relieve(mover, a=SQUEEZED, b=SMALL)
    assert api.asked[3:] == ["b"]


def test_what_is_not_novas_is_left_alone(api, sent, clock, caplog):
    _relieve(_mover("on", api, sent), **{UUID: SMALL})
    assert api.asked == sent == []
    assert "no overcommitted server that could be moved" in caplog.text


def test_a_nova_that_cannot_be_asked_stops_nothing(api, sent, clock, caplog, monkeypatch):
    monkeypatch.setattr(mover_module.objects.InstanceList, "get_uuids_by_host", mock.Mock(side_effect=RuntimeError("no conductor")))
    _relieve(_mover("on", api, sent), a=SMALL)
    assert api.asked == sent == []
    assert "no conductor" in caplog.text
