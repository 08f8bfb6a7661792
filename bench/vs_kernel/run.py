# SPDX-License-Identifier: Apache-2.0
"""The run: every workload of every subject on every side, in turns, round after round."""

import copy

from testbed.errors import TestbedError
from testbed.sizes import format_size

from . import faults, proactive, saved, throughput, wake
from .compressibility import measure_ratios
from .plan import LINUX_GUEST, MEMORY_SUBJECTS, OURS, PROACTIVE, SAVED, THROUGHPUT, WAKE, WITHOUT, sizes_of
from .results import make_row
from .sides import make_side
from .subject import PROGRAMS, OutOfMemory, Subject
from .table import format_value

_PROCEDURES = {THROUGHPUT: throughput.measure, WAKE: wake.measure, PROACTIVE: proactive.measure, SAVED: saved.measure}

# Attempts: share of the total, and may the kernel read ahead where the workload goes in order? Now and then it kills the subject
# where it should reclaim (fresh_statistics.py), so it may try again, then without what makes that likelier, at last with more
# than it is due. We may not.
_OURS = ((1.0, True),)
_RIVALS = ((1.0, True), (1.0, True), (1.0, False), (1.1, False), (1.25, False))


def in_turns(sides, turn):
    """So that no side always comes after the same one, or always first."""
    turn %= len(sides)
    return [*sides[turn:], *sides[:turn]]


class Run:
    def __init__(self, options, progress, run_directory):
        self._options = options
        self._progress = progress
        self._run_directory = run_directory
        self._measured = {comparison: {side: [] for side in comparison.sides} for comparison in options.comparisons}
        self._faults = None
        self._host = None  # of Linux guests
        self.data = None  # how well the subjects' memory compresses

    @staticmethod
    def count(options):
        return sum(comparison.rounds * len(comparison.sides) for comparison in options.comparisons) + bool(options.faults)

    def go(self):
        if self._options.faults:
            self._measure_faults()
        in_guest = [comparison for comparison in self._measured if comparison.subject == LINUX_GUEST]
        self._rounds([comparison for comparison in self._measured if comparison not in in_guest])
        if in_guest:
            # Last and in one piece: nobody else can test with this machine's libvirt meanwhile.
            from .linux_guest import GuestHost  # pylint: disable=import-outside-toplevel  (loads libvirt)
            self._progress.note("starting libvirt where it does not run, building the guest")
            with GuestHost(lambda: self._progress.note("waiting for another run of ./test or bench/vs-kernel to end")) as self._host:
                self._rounds(in_guest)

    def _rounds(self, comparisons):
        for number in range(max((comparison.rounds for comparison in comparisons), default=0)):
            for index, comparison in enumerate(comparisons):
                if number < comparison.rounds:
                    for side in in_turns(comparison.sides, number + index):
                        self._measured[comparison][side].append(self._measure(comparison, side, number))

    def rows(self):
        rows = [make_row(comparison.subject, comparison.workload.name, measured,
                         lower_is_better=comparison.workload.lower_is_better, unit=comparison.workload.unit)
                for comparison, measured in self._measured.items()]
        return rows + (faults.rows(self._faults) if self._faults is not None else [])

    def _measure_faults(self):
        self._progress.begin("engine, one fault")
        try:
            self._faults = faults.measure(self._options.build_dir / "bin/engine_bench")
        except TestbedError as error:
            self._faults = {"error": str(error)}
            self._progress.finish(f"failed: {error}")
            return
        self._progress.finish(", ".join(f"{name} {value:.2f} us" for name, value in self._faults.items()))

    def _measure(self, comparison, name, number):
        subject, workload = comparison.subject, comparison.workload
        self._progress.begin(f"{subject} {workload.name}, {name}"
                             + (f", round {number + 1}" if comparison.rounds > 1 else ""))
        failures, found = [], None
        for share, read_ahead in _OURS if name in (OURS, WITHOUT) else _RIVALS:
            try:
                found = self._attempt(subject, workload, name, share, read_ahead)
                break
            except OutOfMemory as error:
                failures.append(f"with {share:.0%} of the total: {error}")
            except (TestbedError, OSError) as error:
                failures.append(str(error))
                break
        if found is None:
            self._progress.finish(f"failed: {failures[-1]}")
            return {"error": "; ".join(failures)}
        if failures:
            found["failures"] = failures
        latency = f", p99 {found['p99_us']:,.0f} us" if "p99_us" in found else ""
        cold = f", {found['cold_share']:.1%} of the cold memory gone" if "cold_share" in found else ""
        self._progress.finish(f"{format_value(found['value'], workload.unit, found.get('at_least', False))}{latency}{cold}, uses "
                              f"{format_size(found['used_bytes'])}")
        return found

    def _attempt(self, subject, workload, name, share, read_ahead):
        options = copy.copy(self._options)
        options.sizes = sizes_of(subject, options.sizes)
        make_subject = self._maker(subject, workload, options.sizes.working_set)
        with make_side(name, make_subject, options, self._run_directory, workload.in_order and read_ahead) as side:
            if subject in MEMORY_SUBJECTS:
                if self.data is None:
                    self.data = measure_ratios(side.subject, side.filled)
                side.incompressible = self.data["incompressible"]
            found = _PROCEDURES[workload.procedure](side, workload, options, self._progress.step, int(share * options.sizes.total))
        return {**found, "given": share}

    def _maker(self, subject, workload, working_set):
        """What makes that subject in a cgroup."""
        if subject == LINUX_GUEST:
            from .linux_guest import LinuxGuest  # pylint: disable=import-outside-toplevel
            return lambda cgroup: LinuxGuest(self._host, workload.name, working_set, cgroup)
        program = self._options.build_dir / "bin" / PROGRAMS[subject]
        return lambda cgroup: Subject(program, working_set, cgroup, self._options.small_pages)
