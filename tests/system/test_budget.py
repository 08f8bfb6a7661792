# SPDX-License-Identifier: Apache-2.0
"""The host's budget over real guests: who gets what, why, and that nobody's own limit is touched."""

import pytest

from testbed.sizes import MIB

BUDGET = 240 * MIB


def _plan(thermocline, *arguments):
    plan = thermocline.ctl("plan", *arguments, "--json").json()
    return plan, {vm["name"]: vm for vm in plan["vms"]}


def _within(thermocline, guests, budget):
    """Waits until all are under what they were given; what that is, in one moment, in the order of the guests."""
    for guest in guests:
        thermocline.domain(guest).wait_for("its part of the budget", lambda figures: figures["AllotmentBytes"] != 0 and
                                           figures["LimitBytes"] <= figures["AllotmentBytes"] and
                                           figures["UsedBytes"] <= figures["LimitBytes"], 120.0)
    _, vms = _plan(thermocline)
    given = [vms[guest.name]["before_bytes"] for guest in guests]
    assert all(given) and sum(given) <= budget, given
    return given


def test_a_budget_over_three_guests(thermocline, guest, own_guest):
    ctl = thermocline.ctl
    guests = [guest, own_guest("important").start(), own_guest("limited").start()]
    for seed, one in enumerate(guests):
        one.fill(96 * MIB, seed=40 + seed, random_percent=10)
    domains = [thermocline.attached(one) for one in guests]
    assert ctl("priority", guests[1].name, "400").code == 0
    domains[2].set_limit(64 * MIB)

    # Without a budget nobody is bound, and the dry run binds nobody either.
    assert ctl("budget").out == "budget off\n"
    assert ctl("plan").code == 1 and "--budget" in ctl("plan").err
    plan, vms = _plan(thermocline, "--budget", f"{BUDGET}")
    assert plan["need_bytes"] > BUDGET >= plan["available_bytes"]
    assert vms[guests[1].name]["priority"] == 400 and vms[guests[1].name]["after_bytes"] > vms[guest.name]["after_bytes"] > 0
    assert all(vm["before_bytes"] == 0 and vm["reason"] for vm in vms.values())
    assert "THEN" in ctl("plan", "--budget", f"{BUDGET}").out
    assert all(domain.figures()["AllotmentBytes"] == 0 for domain in domains)

    assert ctl("budget", f"{BUDGET}").code == 0
    plain, important = _within(thermocline, guests[:2], BUDGET)
    assert important > plain
    for one in guests:
        one.verify()
    figures = domains[2].figures()
    assert figures["LimitBytes"] <= 64 * MIB
    assert "priority 100" in domains[0].figures()["AllotmentNote"]

    why = ctl("history", guest.name, "--json").json()["decisions"]
    own = [decision for decision in why if decision["uuid"] == guest.uuid]
    assert own and all("priority 100" in decision["reason"] for decision in own)
    assert any(not decision["uuid"] and "budget is 240MiB now" in decision["reason"] for decision in why)
    assert "Decisions about the host's budget" in ctl("history", guest.name).out

    # The next daemon knows it, and lets nobody off meanwhile.
    thermocline.daemon.kill()
    thermocline.start()
    domains = [thermocline.domain(one) for one in guests]
    for domain in domains:
        domain.wait_for_state("attached")
    assert thermocline.client.manager_property("Budget") == "240MiB"
    _within(thermocline, guests[:2], BUDGET)

    assert ctl("budget", "off").code == 0
    for domain in domains[:2]:
        domain.wait_for("no limit", lambda figures: figures["AllotmentBytes"] == 0 and figures["LimitBytes"] == 0)
    domains[2].wait_for("its own limit", lambda figures: figures["LimitBytes"] == 64 * MIB)
    for one in guests:
        one.verify()


def test_memory_goes_to_who_needs_it(thermocline, guest, own_guest):
    busy = own_guest("busy").start()
    guest.fill(128 * MIB, seed=51, random_percent=10)
    busy.fill(128 * MIB, seed=52, random_percent=10)
    domains = [thermocline.attached(guest), thermocline.attached(busy)]
    assert thermocline.ctl("budget", "260MiB").code == 0
    before = dict(zip(("idle", "busy"), _within(thermocline, [guest, busy], 260 * MIB)))
    busy.spin(threads=2)
    domains[1].wait_for("more for the busy one", lambda figures: figures["AllotmentBytes"] > before["busy"], 120.0)
    busy.stop_spinning()
    guest.verify()
    busy.verify()
    assert thermocline.ctl("budget", "default").out == "budget off\n"


@pytest.mark.parametrize("budget", ["1.5", "200%", "-1", "much"])
def test_what_is_no_budget_is_refused(thermocline, budget):
    outcome = thermocline.ctl("budget", "--", budget)
    assert outcome.code == 1 and "from 1% to 100%" in outcome.err


def test_what_is_no_priority_is_refused(thermocline, guest):
    domain = thermocline.domain(guest)
    assert thermocline.ctl("priority", guest.name, "5").code == 1  # it is not attached
    domain.attach()
    assert thermocline.ctl("priority", guest.name, "0").code == 1
    assert thermocline.ctl("priority", guest.name, "1000").code == 0 and domain.figures()["Priority"] == 1000


def test_a_wrong_budget_on_the_command_line_ends_the_daemon(thermocline):
    thermocline.daemon.end()
    thermocline.daemon.options = ["--budget", "200%"]
    code, said = thermocline.daemon.run_to_end()
    assert code == 2 and "from 1% to 100%" in said
    thermocline.daemon.options = []
