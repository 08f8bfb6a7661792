# SPDX-License-Identifier: Apache-2.0
"""Attachment and limit belong to the domain: they come back when it starts again, and are forgotten on detach."""

from testbed.sizes import MIB


def test_policy_is_applied_when_the_domain_starts_again(thermocline, own_guest):
    guest = own_guest("policy")
    guest.define()
    guest.start()
    guest.fill(96 * MIB, seed=81)
    domain = thermocline.attached(guest, limit=104 * MIB)
    guest.destroy()
    domain.wait_for("the domain to stop", lambda figures: not figures["Running"])
    figures = domain.figures()
    assert (figures["Managed"], figures["LimitBytes"]) == (True, 104 * MIB)

    guest.start()
    figures = domain.wait_for_state("attached")
    assert figures["LimitBytes"] == 104 * MIB and figures["Pid"] == guest.pid
    guest.fill(128 * MIB, seed=82)
    domain.wait_for_limit()
    guest.verify()

    domain.detach()
    guest.verify()
    guest.destroy()
    guest.start()
    domain.wait_for("the domain to run", lambda figures: figures["Running"])
    assert domain.figures()["State"] == "detached"


def test_policy_survives_the_daemon(thermocline, own_guest):
    guest = own_guest("policy2")
    guest.define()
    guest.start()
    thermocline.attached(guest, limit=104 * MIB)
    guest.destroy()
    thermocline.domain(guest).wait_for("the domain to stop", lambda figures: not figures["Running"])
    thermocline.daemon.end()
    guest.start()
    thermocline.start()
    figures = thermocline.domain(guest).wait_for_state("attached")
    assert figures["LimitBytes"] == 104 * MIB
    guest.fill(128 * MIB, seed=83)
    guest.verify()
