# SPDX-License-Identifier: Apache-2.0
"""What the driver makes of the daemon and the bus, well and ill."""

import signal
import socket
import threading
import time

import pytest
from thermocline_nova import daemon as daemon_module
from thermocline_nova.daemon import Daemon
from thermocline_nova.errors import DaemonError, DaemonRefusal
from thermocline_nova.settings import Settings

from .conftest import UUID
from .fake_daemon import ATTACHED, HANG, MIB, FakeDaemon, Refusal

OTHER = "00000000-0000-4000-8000-000000000001"


def test_figures_of_all_domains(bus, fake):
    fake.domains[OTHER] = {**ATTACHED, "State": ("s", "detached"), "UsedBytes": ("t", 0)}
    figures = Daemon(bus.address).host_figures(2.0).domains
    assert figures.keys() == {UUID, OTHER}
    assert (figures[UUID].state, figures[UUID].cold, figures[UUID].limit_met, figures[UUID].stall_ratio) == (
        "attached", 300 * MIB, True, 0.002)
    assert (figures[OTHER].state, figures[OTHER].used) == ("detached", 0)


def test_many_domains_need_more_than_one_packet(bus, fake):
    for index in range(300):
        fake.domains[f"00000000-0000-4000-8000-{index:012}"] = dict(ATTACHED)
    assert len(Daemon(bus.address).host_figures(5.0).domains) == 301


@pytest.mark.parametrize("text, budget", [("off", None), ("24GiB", 24 << 30), ("75%", 12 << 30), ("1.5%", 257698037)])
def test_the_hosts_budget(bus, fake, monkeypatch, text, budget):
    monkeypatch.setattr(daemon_module, "total_bytes", lambda: 16 << 30)
    fake.budget = ("s", text)
    assert Daemon(bus.address).host_figures(2.0).budget == budget


@pytest.mark.parametrize("value, message", [(("t", 5), "the budget should be of type s"), (("s", "much"), "budget makes no sense: 'much'")])
def test_a_budget_that_makes_no_sense_is_named(bus, fake, value, message):
    fake.budget = value
    with pytest.raises(DaemonError, match=message):
        Daemon(bus.address).host_figures(2.0)


def _changes(fake):
    return [(method, body) for method, _, body in fake.calls if method not in ("LookupByUuid", "GetAll")]


def test_apply_attaches_and_sets_what_is_asked_for(bus, fake):
    figures = Daemon(bus.address).apply(UUID, Settings(limit=201 * MIB, max_stall=0.005, min_resident=64 * MIB, priority=7), 2.0)
    assert _changes(fake) == [("Attach", ()), ("SetLimit", (201 * MIB,)), ("SetProactive", (0.005, 64 * MIB)), ("SetPriority", (7,))]
    assert figures.limit == 200 * MIB  # of the fake, which does as it is told by the test alone


def test_apply_leaves_what_is_so_already(bus, fake):
    fake.domains[UUID].update(ProactiveMaxStall=("d", 0.005), MinResidentBytes=("t", 64 * MIB), Priority=("u", 7))
    Daemon(bus.address).apply(UUID, Settings(limit=200 * MIB, max_stall=0.005, min_resident=64 * MIB, priority=7), 2.0)
    assert _changes(fake) == [("Attach", ())]


def test_apply_takes_back_what_is_asked_for_no_longer(bus, fake):
    fake.domains[UUID].update(ProactiveMaxStall=("d", 0.005), MinResidentBytes=("t", 64 * MIB), Priority=("u", 7))
    Daemon(bus.address).apply(UUID, Settings(), 2.0)
    assert _changes(fake) == [("Attach", ()), ("ClearLimit", ()), ("SetProactive", (0.0, 0)), ("SetPriority", (100,))]


def test_release_detaches(bus, fake):
    Daemon(bus.address).release(UUID, 2.0)
    assert _changes(fake) == [("Detach", ())]


def test_release_leaves_alone_what_the_daemon_was_told_nothing_of(bus, fake):
    fake.domains[UUID]["Managed"] = ("b", False)
    Daemon(bus.address).release(UUID, 2.0)
    Daemon(bus.address).release(OTHER, 2.0)
    assert _changes(fake) == []


@pytest.mark.parametrize("name", ["NotAttached", "DomainNotRunning", "Busy"])
def test_release_waits_for_an_attach_that_is_about_to_be(bus, fake, name):
    attached = threading.Event()

    def detach(_uuid, _body):
        if not attached.is_set():
            raise Refusal(name, "not yet")
        return None, ()

    def attach():
        fake.wait_for_call("Detach")
        attached.set()
        fake.signal_change(UUID, State=("s", "attached"))

    fake.behaviour["Detach"] = detach
    attaching = threading.Thread(target=attach)
    attaching.start()
    Daemon(bus.address).release(UUID, 10.0)
    attaching.join()
    assert _changes(fake) == [("Detach", ()), ("Detach", ())]


def test_a_release_that_fails_is_told(bus, fake):
    def refuse(_uuid, _body):
        raise Refusal("OutOfMemory", "there is not the memory")
    fake.behaviour["Detach"] = refuse
    with pytest.raises(DaemonRefusal, match="OutOfMemory"):
        Daemon(bus.address).release(UUID, 2.0)


def test_a_domain_that_is_attached_already_is_no_failure(bus, fake):
    def refuse(_uuid, _body):
        raise Refusal("AlreadyAttached", "it is attached")
    fake.behaviour["Attach"] = refuse
    assert Daemon(bus.address).apply(UUID, Settings(limit=100 * MIB), 2.0).state == "attached"
    fake.wait_for_call("SetLimit")


@pytest.mark.parametrize("name", ["DomainNotRunning", "Busy"])
def test_a_domain_that_the_daemon_does_not_see_running_or_attaches_to_by_itself_is_waited_for(bus, fake, name):
    running = threading.Event()

    def attach(_uuid, _body):
        if not running.is_set():
            raise Refusal(name, "not yet")
        return None, ()

    def start():
        fake.wait_for_call("Attach")
        running.set()
        fake.signal_change(UUID, Running=("b", True))

    fake.behaviour["Attach"] = attach
    starting = threading.Thread(target=start)
    starting.start()
    assert Daemon(bus.address).apply(UUID, Settings(), 10.0).state == "attached"
    starting.join()
    assert [method for method, _, _ in fake.calls].count("Attach") == 2


def test_a_domain_that_the_daemon_does_not_know_yet_is_waited_for(bus, fake):
    fake.domains[OTHER] = fake.domains.pop(UUID)

    def define():
        fake.wait_for_call("LookupByUuid")
        fake.domains[UUID] = dict(ATTACHED)
        fake.signal_change(UUID, Running=("b", True))

    defining = threading.Thread(target=define)
    defining.start()
    assert Daemon(bus.address).apply(UUID, Settings(), 10.0).state == "attached"
    defining.join()


def test_a_domain_that_does_not_start_is_given_up(bus, fake):
    def attach(_uuid, _body):
        raise Refusal("DomainNotRunning", "start it first")
    fake.behaviour["Attach"] = attach
    _takes_between(0.3, 1.5, lambda: Daemon(bus.address).apply(UUID, Settings(), 0.3))
    assert [method for method, _, _ in fake.calls].count("Attach") == 1


def test_a_refusal_has_its_name_and_message(bus, fake):
    def refuse(_uuid, _body):
        raise Refusal("NotSupported", "its memory is locked; unlock it")
    fake.behaviour["Attach"] = refuse
    with pytest.raises(DaemonRefusal) as refused:
        Daemon(bus.address).apply(UUID, Settings(limit=200 * MIB), 2.0)
    assert (refused.value.name, refused.value.message) == ("NotSupported", "its memory is locked; unlock it")


def test_an_unknown_domain_is_a_refusal(bus, fake):
    with pytest.raises(DaemonRefusal) as refused:
        Daemon(bus.address).domain_figures(OTHER, 2.0)
    assert refused.value.name == "NoSuchDomain"


def test_no_daemon_on_the_bus(bus):
    with pytest.raises(DaemonError, match="thermoclined does not run"):
        Daemon(bus.address).host_figures(2.0)


def test_no_bus(tmp_path):
    with pytest.raises(DaemonError, match="cannot be used"):
        Daemon(f"unix:path={tmp_path}/none").host_figures(2.0)


def test_an_address_that_is_none(tmp_path):
    with pytest.raises(DaemonError, match="the message bus nonsense cannot be used"):
        Daemon("nonsense").host_figures(2.0)


def _takes_between(least, most, function):
    began = time.monotonic()
    with pytest.raises(DaemonError, match="no answer|within|timed out"):
        function()
    assert least <= time.monotonic() - began < most


def test_a_daemon_that_hangs_costs_no_more_than_the_timeout(bus, fake):
    fake.behaviour["GetManagedObjects"] = lambda *_: HANG
    _takes_between(0.3, 1.5, lambda: Daemon(bus.address).host_figures(0.3))


def test_a_daemon_that_hangs_half_way_through_costs_no_more_than_the_timeout(bus, fake):
    fake.behaviour["SetLimit"] = lambda *_: HANG
    _takes_between(0.3, 1.5, lambda: Daemon(bus.address).apply(UUID, Settings(limit=100 * MIB), 0.3))


def test_a_bus_that_hangs_costs_no_more_than_the_timeout(bus, fake):
    bus.process.send_signal(signal.SIGSTOP)
    _takes_between(0.3, 1.5, lambda: Daemon(bus.address).host_figures(0.3))


def test_what_answers_no_login_costs_no_more_than_the_timeout(tmp_path):
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(f"{tmp_path}/deaf")
        deaf.listen()
        _takes_between(0.3, 1.5, lambda: Daemon(f"unix:path={tmp_path}/deaf").host_figures(0.3))


def test_a_daemon_that_is_killed_while_it_owes_an_answer(bus, fake):
    fake.behaviour["GetManagedObjects"] = lambda *_: HANG
    failures = []

    def ask():
        try:
            Daemon(bus.address).host_figures(20.0)
        except DaemonError as error:
            failures.append(str(error))

    asking = threading.Thread(target=ask)
    asking.start()
    fake.wait_for_call("GetManagedObjects")
    fake.kill()
    asking.join(10.0)
    assert len(failures) == 1 and "does not run" in failures[0]


def test_a_bus_that_ends_while_it_owes_an_answer(bus, fake):
    fake.behaviour["GetManagedObjects"] = lambda *_: HANG
    threading.Thread(target=lambda: (fake.wait_for_call("GetManagedObjects"), bus.process.kill())).start()
    with pytest.raises(DaemonError, match="is gone"):
        Daemon(bus.address).host_figures(20.0)


@pytest.mark.parametrize("name, wrong", [
    ("UsedBytes", ("s", "many")), ("UsedBytes", ("i", 5)), ("LimitMet", ("u", 1)), ("State", ("t", 1)), ("StallRatio", ("t", 0)),
    ("ColdBytes", ("d", 1.0)),
    ("Priority", ("s", "7"))])
def test_a_property_of_the_wrong_type_is_named(bus, fake, name, wrong):
    fake.domains[UUID][name] = wrong
    with pytest.raises(DaemonError, match=f"{name} should be of type"):
        Daemon(bus.address).host_figures(2.0)
    with pytest.raises(DaemonError, match=f"{name} should be of type"):
        Daemon(bus.address).domain_figures(UUID, 2.0)


def test_a_property_that_is_missing_is_named(bus, fake):
    del fake.domains[UUID]["MemoryBytes"]
    with pytest.raises(DaemonError, match="MemoryBytes should be of type t and is None"):
        Daemon(bus.address).host_figures(2.0)


@pytest.mark.parametrize("method, answer, call", [
    ("GetManagedObjects", ("s", ("nothing",)), lambda daemon: daemon.host_figures(2.0)),
    ("Get", ("s", ("off",)), lambda daemon: daemon.host_figures(2.0)),
    ("GetManagedObjects", (None, ()), lambda daemon: daemon.host_figures(2.0)),
    ("LookupByUuid", ("u", (7,)), lambda daemon: daemon.domain_figures(UUID, 2.0)),
    ("GetAll", ("ss", ("a", "b")), lambda daemon: daemon.domain_figures(UUID, 2.0))])
def test_an_answer_of_the_wrong_type_is_named(bus, fake, method, answer, call):
    fake.behaviour[method] = lambda *_: answer
    with pytest.raises(DaemonError, match=f"the answer to {method} is not of the type"):
        call(Daemon(bus.address))


def test_objects_that_are_no_domains_are_passed_over(bus, fake):
    fake.behaviour["GetManagedObjects"] = lambda *_: ("a{oa{sa{sv}}}", ({"/org/thermocline1/other": {"org.example": {}}},))
    assert Daemon(bus.address).host_figures(2.0).domains == {}


def test_a_daemon_that_comes_back_is_found(bus):
    daemon = Daemon(bus.address)
    with pytest.raises(DaemonError):
        daemon.host_figures(2.0)
    with FakeDaemon(bus.address, {UUID: dict(ATTACHED)}):
        assert daemon.host_figures(2.0).domains.keys() == {UUID}
