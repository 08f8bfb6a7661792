# SPDX-License-Identifier: Apache-2.0
"""What the demo does with the guest, step by step, and what it measures on the way."""

from dataclasses import dataclass

from gi.repository import GLib

from testbed.deadline import Deadline
from testbed.errors import TestbedError
from testbed.sizes import MIB, format_size
from testbed.thermocline_client import limit_holds

from .live_table import LiveTable

_SEED = 20240920
_BUSY_FAULTS = 30_000
_PATIENCE_SECONDS = 300.0


@dataclass
class Measured:
    """What the guest's memory took before, and what it took under the limit."""

    memory_bytes: int = 0
    limit_bytes: int = 0
    filled_bytes: int = 0
    verified_bytes: int = 0
    resident_before_bytes: int = 0
    resident_after_bytes: int = 0
    store_bytes: int = 0
    metadata_bytes: int = 0
    used_after_bytes: int = 0
    attach_pause_us: int = 0
    faults: int = 0
    stall_ratio: float = 0.0  # share of the time that the guest worked under the limit
    guest_worst_page_us: int = 0  # longest time that the guest saw one page take under the limit
    guest_ok: bool = False

    @property
    def saved_bytes(self):
        return self.resident_before_bytes - self.used_after_bytes

    @property
    def saved_ratio(self):
        return self.saved_bytes / self.resident_before_bytes if self.resident_before_bytes else 0.0


class Scenario:
    """run() returns what was measured, or raises what went wrong."""

    def __init__(self, terminal, guest, domain, limit_bytes):
        self._terminal = terminal
        self._guest = guest
        self._domain = domain
        self._limit = limit_bytes
        self._table = None
        self._measured = Measured(memory_bytes=guest.spec.memory_bytes, limit_bytes=limit_bytes)

    def run(self):
        self._fill_memory()
        self._attach()
        self._squeeze()
        self._work_under_limit()
        self._lift_and_detach()
        self._measured.guest_ok = True
        return self._measured

    def _fill_memory(self):
        # A tenth of what is free stays so, or the guest's own reclaim would be what is measured.
        size = self._guest.status()["free_bytes"] * 9 // 10 // MIB * MIB
        self._terminal.step(f"the guest fills {format_size(size)} with data that it can verify byte by byte")
        self._guest.fill(size, _SEED)
        self._measured.filled_bytes = size
        self._measured.verified_bytes += self._guest.verify()["bytes"]

    def _attach(self):
        self._terminal.step("attaching to the running guest")
        self._domain.attach()
        figures = self._domain.wait_for_state("attached")
        self._measured.attach_pause_us = figures["AttachPauseMicroseconds"]
        self._measured.resident_before_bytes = figures["ResidentBytes"]
        self._terminal.say(f"    attached; the guest stood still for {figures['AttachPauseMicroseconds']} microseconds")

    def _squeeze(self):
        self._terminal.step(f"hard limit {format_size(self._limit)}: half of its memory has to go"
                            if self._limit * 2 == self._measured.memory_bytes else
                            f"hard limit {format_size(self._limit)}")
        self._table = LiveTable(self._terminal, self._measured.memory_bytes)
        self._domain.set_limit(self._limit)
        figures = self._watch_until("the guest idles", limit_holds)
        self._measured.resident_after_bytes = figures["ResidentBytes"]
        self._measured.store_bytes = figures["StoreBytes"]
        self._measured.metadata_bytes = figures["MetadataBytes"]
        self._measured.used_after_bytes = figures["UsedBytes"]

    def _work_under_limit(self):
        before = self._domain.figures()
        begin = GLib.get_monotonic_time()
        faults = before["Faults"]
        self._guest.spin(threads=2, write_percent=20)
        self._watch_until("the guest reads and writes at random", lambda figures: figures["Faults"] > faults + _BUSY_FAULTS)
        self._measured.guest_worst_page_us = self._guest.stop_spinning()["worst_page_us"]
        answer = self._watch_command("verify", "the guest verifies every byte")
        self._measured.verified_bytes += answer["bytes"]
        elapsed_ns = (GLib.get_monotonic_time() - begin) * 1000
        after = self._domain.figures()
        self._measured.stall_ratio = (after["StallNanoseconds"] - before["StallNanoseconds"]) / elapsed_ns
        self._measured.faults = after["Faults"]
        self._terminal.say(f"    every byte is right: {format_size(answer['bytes'])} verified in the guest "
                           f"while under the limit")

    def _lift_and_detach(self):
        self._terminal.step("lifting the limit, detaching")
        self._domain.clear_limit()
        self._domain.detach()
        self._domain.wait_for_state("detached")
        self._measured.verified_bytes += self._guest.verify()["bytes"]
        self._terminal.say("    detached; the guest runs on, and every byte is right")

    def _watch_command(self, command, phase):
        """Shows the table while the guest is busy with the command; returns its answer."""
        channel = self._guest.channel
        answered = []
        channel.send(command)
        source = GLib.unix_fd_add_full(GLib.PRIORITY_DEFAULT, channel.fileno(), GLib.IOCondition.IN | GLib.IOCondition.HUP,
                                       lambda *_: answered.append(True))
        try:
            self._watch_until(phase, lambda _figures: answered)
        finally:
            if not answered:
                GLib.source_remove(source)
        return channel.receive_answer(command)

    def _watch_until(self, phase, condition):
        deadline = Deadline(_PATIENCE_SECONDS)
        with self._domain.watch() as watch:
            self._table.show(phase, watch.figures)
            while not condition(watch.figures):
                if deadline.over:
                    raise TestbedError(f"{phase}: not done within {_PATIENCE_SECONDS:.0f} s; {watch.figures}")
                if watch.wait(deadline):
                    self._table.show(phase, watch.figures)
            return dict(watch.figures)
