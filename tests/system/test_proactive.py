# SPDX-License-Identifier: Apache-2.0
"""Cold memory is found and stored without any limit, within a stall; the policy belongs to the domain like a limit."""

import xml.etree.ElementTree

from gi.repository import GLib

from testbed.sizes import KIB, MIB

from .qemu_state import QemuState, require_unchanged
from .refusals import FAILURE, USAGE, refused, refused_by_cli

_PAGE = 4 * KIB


def _set_proactive(domain, max_stall, min_resident=0):
    domain.start("SetProactive", GLib.Variant("(dt)", (max_stall, min_resident))).result()


def _heat(domain, pieces):
    return domain.start("GetHeat", GLib.Variant("(u)", (pieces,))).result()


def _policy(figures):
    return figures["ProactiveMaxStall"], figures["MinResidentBytes"]


def test_cold_memory_is_stored_without_a_limit(thermocline, guest):
    guest.fill(160 * MIB, seed=121)
    before = QemuState.of(guest)
    domain = thermocline.domain(guest)
    domain.attach()
    _set_proactive(domain, 0.05)
    figures = domain.wait_for("cold memory", lambda figures: figures["ColdBytes"] > 32 * MIB, seconds=120)
    assert figures["LimitBytes"] == 0 and _policy(figures) == (0.05, 0)
    guest.verify()

    # What is counted changes meanwhile; what was asked for does not.
    working_set, pieces = _heat(domain, 64)
    assert len(pieces) == 64 and 0 < working_set < figures["MemoryBytes"]
    assert 0 < sum(sum(piece) for piece in pieces) * _PAGE <= figures["MemoryBytes"]

    _set_proactive(domain, 0)
    domain.wait_for("everything back", lambda figures: not figures["ColdBytes"] and not figures["StagedBytes"])
    guest.verify()
    assert _policy(domain.figures()) == (0, 0)
    domain.detach()
    guest.verify()
    require_unchanged(guest, before)


def test_policy_returns_with_the_domain_and_the_daemon(thermocline, own_guest):
    guest = own_guest("proactive")
    guest.define()
    guest.start()
    domain = thermocline.attached(guest)
    _set_proactive(domain, 0.02, 64 * MIB)
    thermocline.daemon.end()
    thermocline.start()
    domain = thermocline.domain(guest)
    assert _policy(domain.wait_for_state("attached")) == (0.02, 64 * MIB)

    guest.destroy()
    figures = domain.wait_for("the domain to stop", lambda figures: not figures["Running"])
    assert _policy(figures) == (0.02, 64 * MIB)
    thermocline.daemon.end()
    guest.start()
    thermocline.start()
    domain = thermocline.domain(guest)
    assert _policy(domain.wait_for_state("attached")) == (0.02, 64 * MIB)
    domain.detach()
    assert _policy(domain.figures()) == (0, 0)


def test_what_cannot_be_set_changes_nothing(thermocline, guest):
    domain = thermocline.domain(guest)
    refused("NotAttached", _set_proactive, domain, 0.01)
    refused("NotAttached", _heat, domain, 1)
    domain.attach()
    _set_proactive(domain, 0.01, 128 * MIB)
    for stall in (0.6, -0.1, 1e-9, float("inf"), float("nan")):
        refused("InvalidArgument", _set_proactive, domain, stall)
    assert "from 0.0001 to 0.5" in refused_by_cli(thermocline, FAILURE, "proactive", guest.name, "--max-stall", "60%")
    for pieces in (0, 1025):
        refused("InvalidArgument", _heat, domain, pieces)
    assert _policy(domain.figures()) == (0.01, 128 * MIB)


def test_by_command_line(thermocline, guest, tmp_path):
    ctl = thermocline.ctl
    guest.fill(64 * MIB, seed=122)
    thermocline.domain(guest).attach()
    assert ctl("proactive", guest.name, "--max-stall", "1%", "--min-resident", "96M").code == 0
    status = ctl("status", guest.name, "--json").json()
    assert (status["proactive_max_stall"], status["min_resident_bytes"]) == (0.01, 96 * MIB)
    assert "1 %, leaving 96.0 MiB" in ctl("status", guest.name).out

    heat = ctl("heat", guest.name).out
    assert heat.startswith(guest.name) and "\033" not in heat and "[#] hot" in heat
    assert len(ctl("heat", guest.name, "--pieces", "16", "--json").json()["pieces"]) == 16
    plot = tmp_path / "heat.svg"
    assert ctl("heat", guest.name, "--plot", str(plot)).code == 0
    assert xml.etree.ElementTree.parse(plot).getroot().tag.endswith("svg")
    image = tmp_path / "heat.png"
    assert ctl("heat", guest.name, "--plot", str(image)).code == 0
    assert image.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    refused_by_cli(thermocline, USAGE, "heat", guest.name, "--plot", str(tmp_path / "heat.jpeg"))
    refused_by_cli(thermocline, FAILURE, "heat", guest.name, "--plot", str(tmp_path / "missing" / "heat.svg"))

    assert ctl("proactive", guest.name, "off").out.strip() == f"{guest.name}: proactive off"
    assert ctl("status", guest.name, "--json").json()["proactive_max_stall"] == 0
