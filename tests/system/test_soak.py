# SPDX-License-Identifier: Apache-2.0
"""The short form of bench/soak; and what is not flat is found."""

import os
import tempfile

from soak.flatness import Flatness
from soak.soak import RAM, Soak
from testbed.paths import BUILD
from testbed.sizes import MIB

SECONDS = 30


def test_limits_and_policies_that_change_all_the_time(thermocline_with, own_guest):
    with tempfile.TemporaryDirectory(prefix="soak-", dir=BUILD) as disk:
        thermocline = thermocline_with("--file-tier-dir", disk, "--file-tier-age", "2")
        guests = [own_guest("soak", RAM).start() for _ in range(2)]
        report = Soak(thermocline, guests, 1, print).run(SECONDS)
        assert report["ok"], report
        assert report["verifications"] >= 8 and report["changes"] > 8
        assert report["memory"]["thermoclined"]["bytes_bound"] > 0


def test_what_grows_is_found():
    ours = Flatness("we", "manager")
    held = []
    for _ in range(20):
        held.append(bytearray(b"x") * (4 * MIB))
        ours.sample(os.getpid())
    (problem,) = ours.judge()["problems"]
    assert problem.startswith("we grew from")
    flat = Flatness("we", "thermoclined")
    for _ in range(20):
        flat.sample(os.getpid())
    assert flat.judge()["problems"] == []
