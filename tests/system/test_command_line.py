# SPDX-License-Identifier: Apache-2.0
"""thermoctl as people and scripts use it, against a real guest."""

import subprocess

from testbed.paths import binary
from testbed.sizes import MIB


def _find(listing, guest):
    entries = listing if isinstance(listing, list) else listing["domains"]
    return next(entry for entry in entries if entry["name"] == guest.name)


def test_a_whole_session(thermocline, guest):
    ctl = thermocline.ctl
    guest.fill(128 * MIB, seed=101)
    thermocline.domain(guest)  # known by now
    assert guest.name in ctl("list").out
    assert _find(ctl("list", "--json").json(), guest)["state"] == "detached"

    assert ctl("attach", guest.name).code == 0
    assert ctl("limit", guest.uuid, "112MiB").code == 0
    thermocline.domain(guest).wait_for_limit()
    status = ctl("status", guest.name, "--json").json()
    assert status["limit_bytes"] == 112 * MIB and 0 < status["used_bytes"] <= 112 * MIB
    assert "112" in ctl("status", guest.name).out
    guest.verify()

    domain = thermocline.domain(guest)
    seen = domain.figures()["StallNanoseconds"]
    guest.touch(2000, seed=5)
    domain.wait_for("the next sample", lambda figures: figures["StallNanoseconds"] > seen)
    domain.wait_for("a sample in the history", lambda _figures: domain.history())
    drawn = ctl("history", guest.name, "--since", "5m").out
    assert all(name in drawn for name in ("resident", "staged", "cold", "frozen", "stall", "faults"))
    samples = ctl("history", guest.name, "--json").json()["samples"]
    assert samples and max(sample["used_bytes"] for sample in samples) > 0
    rows = ctl("history", guest.name, "--csv").out.splitlines()
    assert "used_bytes" in rows[0].split(",") and len(rows) > len(samples)
    assert len(ctl("history", guest.name, "--since", "10m", "--step", "10m", "--json").json()["samples"]) in (1, 2)
    for name, magic in (("history.svg", b"<?xml"), ("history.png", b"\x89PNG")):
        image = thermocline.daemon.directory / name
        assert ctl("history", guest.name, "--plot", str(image)).code == 0 and image.read_bytes().startswith(magic)
    assert ctl("history", guest.name, "--since", "tomorrow").code == 2

    assert ctl("limit", guest.name, "none").code == 0
    assert ctl("detach", guest.name).code == 0
    assert _find(ctl("list", "--json").json(), guest)["state"] == "detached"
    guest.verify()


def test_doctor_finds_this_host_and_the_guest_able(thermocline, guest):
    thermocline.domain(guest)
    outcome = thermocline.ctl("doctor")
    assert outcome.code == 0 and guest.name in outcome.out
    assert thermocline.ctl("doctor", "--json").json()


def test_help_shows_examples():
    for command in ("list", "status", "attach", "detach", "limit", "proactive", "priority", "budget", "plan", "file-tier", "heat", "history", "top",
                    "doctor"):
        result = subprocess.run([binary("thermoctl"), command, "--help"], capture_output=True, text=True, timeout=10,
                                check=False)
        assert result.returncode == 0 and "thermoctl " + command in result.stdout
