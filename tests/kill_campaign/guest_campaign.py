# SPDX-License-Identifier: Apache-2.0
"""Kills over a Linux guest that verifies and rewrites its memory on all vCPUs: of the manager, of thermoclined, of both,
with a file tier, and libvirtd restarts now and then. A pause is the time from a kill to a manager that serves again: as long as that waits, at most, what the guest wants back."""

import random
import sys
import tempfile
import time
from pathlib import Path

from system.thermocline import Thermocline
from testbed.guest_channel import GuestError
from testbed.paths import BUILD
from testbed.sizes import MIB
from testbed.testbed import Testbed

RAM = 256 * MIB
FILLED = 128 * MIB
LIMITS = (100 * MIB, 112 * MIB, 128 * MIB, 160 * MIB)
KILLS_PER_VERIFY = 50
KILLS_PER_LIBVIRTD = 10
REMARKABLE_SECONDS = 5


class GuestCampaign:
    def __init__(self, options, outcome):
        self._kills = options.kills
        self._outcome = outcome
        self._random = random.Random(options.seed)

    def run(self):
        # The checkout is on a disk.
        with Testbed() as testbed, testbed.guest("kills", RAM) as guest, \
                tempfile.TemporaryDirectory(prefix="kills-", dir=BUILD) as disk:
            guest.start()
            guest.fill(FILLED, seed=self._random.randint(1, 1000))
            with Thermocline(testbed, start=False, say=lambda _text: None) as thermocline:
                thermocline.daemon.options = ["--file-tier-dir", disk, "--file-tier-age", "1"]
                thermocline.start()
                domain = thermocline.attached(guest, limit=LIMITS[1])
                try:
                    guest.spin(threads=2)
                    while self._outcome.kills < self._kills:
                        domain = self._kill(thermocline, guest, domain)
                        if self._outcome.kills % KILLS_PER_LIBVIRTD == 0:
                            self._restart_libvirtd(testbed.services, thermocline)
                        if self._outcome.kills % KILLS_PER_VERIFY == 0:
                            guest.stop_spinning()
                            guest.verify()
                            guest.spin(threads=2)
                    guest.stop_spinning()
                    guest.verify()
                    domain.detach()
                    guest.verify()
                except GuestError as error:
                    print(error, flush=True)
                    self._outcome.bytes_wrong += 1  # the guest tells of the first one only

    def _kill(self, thermocline, guest, domain):
        domain.set_limit(self._random.choice(LIMITS))
        time.sleep(self._random.uniform(0, 1.5))
        manager = self._manager(thermocline, guest)
        what = self._random.choice(("manager", "manager", "daemon", "both"))
        if what == "both" and self._random.random() < 0.5:
            thermocline.daemon.kill()
            killed = time.monotonic()
            thermocline.kill_manager(manager)
        elif what == "daemon":
            killed = time.monotonic()
            thermocline.daemon.kill()
        else:
            killed = time.monotonic()
            thermocline.kill_manager(manager)
            if what == "both":
                thermocline.daemon.kill()
        if what != "manager":
            thermocline.start()
            domain = thermocline.domain(guest)
        domain.wait_for("a manager", lambda now: now["State"] == "attached"
                        and (what == "daemon" or self._manager(thermocline, guest) not in (None, manager)))
        self._outcome.killed(what)
        if what != "daemon":
            pause = time.monotonic() - killed
            self._outcome.paused(pause * 1e6)
            if pause > REMARKABLE_SECONDS:
                print(f"a pause of {pause:.1f} s after a kill of {what}:\n{thermocline.daemon.log_tail(40)}", file=sys.stderr)
        guest.channel.request("progress")
        return domain

    def _restart_libvirtd(self, services, thermocline):
        if not services.owns_libvirtd:
            return
        services.stop_libvirtd()
        time.sleep(self._random.uniform(0, 0.5))
        services.start_libvirtd()
        thermocline.client.wait_for_manager_property("HypervisorState", "connected")
        self._outcome.where["libvirtd restarts"] += 1

    @staticmethod
    def _manager(thermocline, guest):
        directory = str(thermocline.domain_directory(guest)).encode()
        for pid in thermocline.daemon.managers():
            if directory in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        return None
