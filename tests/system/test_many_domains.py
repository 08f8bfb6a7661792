# SPDX-License-Identifier: Apache-2.0
"""Many domains at once, each with a manager of its own. They run no guest: their QEMUs only exist.

THERMOCLINE_MANY_DOMAINS=200 THERMOCLINE_TEST_SECONDS=1800 is the long form, some minutes."""

import os

from gi.repository import GLib

from testbed.process_memory import private_bytes
from testbed.sizes import KIB, MIB

AT_ONCE = 100  # the bus lets a client wait for 128 answers
COUNT = int(os.environ.get("THERMOCLINE_MANY_DOMAINS", "24"))
LIMIT = 16 * MIB


def _all(domains, method, arguments=None):
    """At the same time."""
    for first in range(0, len(domains), AT_ONCE):
        for call in [domain.start(method, arguments, seconds=300.0) for domain in domains[first:first + AT_ONCE]]:
            call.result()


def test_many_domains_come_are_limited_and_go(thermocline, own_guest):
    guests = [own_guest("many", 32 * MIB, boots=False, vcpus=1) for _ in range(COUNT)]
    for guest in guests:
        guest.start_paused()
    domains = [thermocline.domain(guest) for guest in guests]
    names = {guest.name for guest in guests}
    daemon = thermocline.daemon.process.pid
    taken = []
    for _ in range(2):
        _all(domains, "Attach")
        assert len(thermocline.daemon.managers()) == COUNT
        _all(domains, "SetLimit", GLib.Variant("(t)", (LIMIT,)))
        for domain in domains:
            domain.wait_for_limit()
        listed = [row for row in thermocline.ctl("list", "--json").json() if row["name"] in names]
        assert len(listed) == COUNT
        assert {(row["state"], row["limit_bytes"]) for row in listed} == {("attached", LIMIT)}
        taken.append(private_bytes(daemon))
        _all(domains, "Detach")
        assert not thermocline.daemon.managers()
    print(f"{COUNT} domains: thermoclined takes {taken[0] // KIB} KiB, the second time {taken[1] // KIB} KiB")
    assert taken[0] < 24 * MIB + COUNT * 128 * KIB
    assert taken[1] < taken[0] + 2 * MIB + COUNT * 16 * KIB, "what ended was not forgotten"
    assert {domain.figures()["State"] for domain in domains} == {"detached"}
