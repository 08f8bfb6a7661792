# SPDX-License-Identifier: Apache-2.0
"""The run: every workload of every subject on every side, in turns, round after round."""

from testbed.errors import TestbedError
from testbed.sizes import format_size

from . import throughput, wake
from .compressibility import measure_ratios
from .results import OURS, make_row
from .sides import make_side
from .subject import OutOfMemory
from .table import format_value

# Attempts: share of the total, and may the kernel read ahead where the workload goes in order? Now and then it kills the subject
# where it should reclaim (fresh_statistics.py), so it may try again, then without what makes that likelier, at last with more
# than it is due. We may not.
_OURS = ((1.0, True),)
_RIVALS = ((1.0, True), (1.0, True), (1.0, False), (1.1, False), (1.25, False))


def in_turns(sides, turn):
    """So that no side always comes after the same one, or always first."""
    turn %= len(sides)
    return sides[turn:] + sides[:turn]


class Run:
    def __init__(self, options, progress, run_directory):
        self._options = options
        self._progress = progress
        self._run_directory = run_directory
        self._sides = [OURS, *options.rivals]
        self._measured = {(subject, workload.name): {side: [] for side in self._sides}
                          for subject in options.subjects for workload in options.workloads}
        self.data = None  # how well the subjects' memory compresses

    @staticmethod
    def count(options):
        return options.rounds * len(options.subjects) * len(options.workloads) * (1 + len(options.rivals))

    def go(self):
        for number in range(self._options.rounds):
            for subject in self._options.subjects:
                for index, workload in enumerate(self._options.workloads):
                    for side in in_turns(self._sides, number + index):
                        found = self._measure(subject, workload, side, number)
                        self._measured[subject, workload.name][side].append(found)

    def rows(self):
        wakes = {workload.name: workload.wakes for workload in self._options.workloads}
        return [make_row(subject, workload, measured, lower_is_better=wakes[workload])
                for (subject, workload), measured in self._measured.items()]

    def _measure(self, subject, workload, name, number):
        self._progress.begin(f"{subject} {workload.name}, {name}"
                             + (f", round {number + 1}" if self._options.rounds > 1 else ""))
        failures, found = [], None
        for share, read_ahead in _OURS if name == OURS else _RIVALS:
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
        unit = "s" if workload.wakes else "accesses/s"
        latency = f", p99 {found['p99_us']:,.0f} us" if "p99_us" in found else ""
        self._progress.finish(f"{format_value(found['value'], unit, found.get('at_least', False))}{latency}, uses "
                              f"{format_size(found['used_bytes'])}")
        return found

    def _attempt(self, subject, workload, name, share, read_ahead):
        with make_side(name, subject, self._options, self._run_directory, workload.in_order and read_ahead) as side:
            if self.data is None:
                self.data = measure_ratios(side.subject, side.filled)
            procedure = wake.measure if workload.wakes else throughput.measure
            found = procedure(side, workload, self._options, self._progress.step, int(share * self._options.sizes.total))
        return {**found, "given": share}
