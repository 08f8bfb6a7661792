# SPDX-License-Identifier: Apache-2.0
"""The soak itself, over a testbed. Not thread-safe."""

import random
import time

from gi.repository import GLib

from testbed.deadline import Deadline
from testbed.guest_channel import GuestError
from testbed.sizes import MIB

from .flatness import Flatness

RAM = 256 * MIB
FILLED = 128 * MIB
LIMITS = (112 * MIB, 128 * MIB, 144 * MIB, 176 * MIB, 208 * MIB)
SECONDS_PER_VERIFY = 20


class Soak:
    """REQUIRES: a thermoclined with a file tier runs; the guests have RAM bytes and have booted."""

    def __init__(self, thermocline, guests, seed, say):
        self._thermocline = thermocline
        self._random = random.Random(seed)
        self._say = say
        self._guests = guests
        self._domains = [thermocline.domain(guest) for guest in guests]
        self._flatness = {"thermoclined": Flatness("thermoclined", "thermoclined")}
        self._managers = {}
        self.changes = 0
        self.verifications = 0
        self.errors = []

    def run(self, seconds):
        """The report; `ok` is the verdict."""
        for number, (guest, domain) in enumerate(zip(self._guests, self._domains)):
            guest.fill(FILLED, seed=200 + number)
            known = set(self._thermocline.daemon.managers())
            domain.attach()
            (manager,) = set(self._thermocline.daemon.managers()) - known
            self._managers[f"manager of {guest.name}"] = manager
            self._flatness[f"manager of {guest.name}"] = Flatness(f"the manager of {guest.name}", "manager")
            guest.spin(threads=1)
        began = time.monotonic()
        deadline, verify = Deadline(seconds), Deadline(SECONDS_PER_VERIFY)
        while not deadline.over:
            self._change()
            self._sample(time.monotonic() - began)
            if verify.over:
                self._verify(spin_again=True)
                verify = Deadline(SECONDS_PER_VERIFY)
            # The pace at which things change is what this is about.
            time.sleep(min(deadline.remaining, self._random.uniform(1, 4) if seconds > 120 else 1))
        self._verify(spin_again=False)
        figures = [domain.figures() for domain in self._domains]
        for guest, domain in zip(self._guests, self._domains):
            domain.detach()
            self._check(guest.verify)
        return self._report(time.monotonic() - began, figures)

    def _change(self):
        domain = self._random.choice(self._domains)
        kind = self._random.random()
        if kind < 0.55:
            domain.set_limit(self._random.choice(LIMITS))
        elif kind < 0.65:
            domain.clear_limit()
        elif kind < 0.8:
            stall = self._random.choice((0.0, 0.001, 0.005, 0.05))
            domain.start("SetProactive", GLib.Variant("(dt)", (stall, 64 * MIB if stall else 0))).result()
        elif kind < 0.9:
            domain.start("SetPriority", GLib.Variant("(u)", (self._random.randint(1, 1000),))).result()
        else:
            budget = self._random.choice(("off", "320MiB", "420MiB"))
            self._thermocline.client.manager("SetBudget", GLib.Variant("(st)", (budget, 0)))
        self.changes += 1

    def _check(self, verify):
        try:
            verify()
            self.verifications += 1
        except GuestError as error:
            self.errors.append(str(error))

    def _verify(self, spin_again):
        for guest in self._guests:
            self._check(guest.stop_spinning)
            self._check(guest.verify)
            if spin_again:
                guest.spin(threads=1)

    def _sample(self, seconds):
        self._flatness["thermoclined"].sample(self._thermocline.daemon.process.pid)
        for name, pid in self._managers.items():
            self._flatness[name].sample(pid)
        self._say(f"{seconds:7.0f} s, {self.changes} changes, {self.verifications} verifications, {len(self.errors)} errors; "
                  + ", ".join(f"{name} {flatness.now / MIB:.1f} MiB" for name, flatness in self._flatness.items()))

    def _report(self, seconds, figures):
        memory = {name: flatness.judge() for name, flatness in self._flatness.items()}
        problems = self.errors + [problem for one in memory.values() for problem in one["problems"]]
        for guest, now in zip(self._guests, figures):
            if now["LostPages"]:
                problems.append(f"{guest.name}: {now['StateNote']}")
            if not now["EvictedPages"] or not now["ColdFaults"] + now["FrozenFaults"]:
                problems.append(f"{guest.name}: nothing was evicted and came back")
        return {"seconds": round(seconds), "changes": self.changes, "verifications": self.verifications,
                "verification_errors": len(self.errors), "evicted_pages": sum(now["EvictedPages"] for now in figures),
                "faults": sum(now["Faults"] for now in figures), "memory": memory, "problems": problems, "ok": not problems}
