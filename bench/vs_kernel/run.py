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

# Attempts, each with this share of the total: the kernel now and then kills the subject where it should reclaim
# (fresh_statistics.py), so it may try again, at last with more than it is due. We may not.
_GIVEN = {False: (1.0,), True: (1.0, 1.0, 1.1, 1.25)}


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
        failures = []
        for share in _GIVEN[name != OURS]:
            try:
                found = self._attempt(subject, workload, name, int(share * self._options.sizes.total))
                break
            except OutOfMemory as error:
                failures.append(f"with {share:.0%} of the total: {error}")
            except (TestbedError, OSError) as error:
                failures.append(str(error))
                found = None
                break
        else:
            found = None
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

    def _attempt(self, subject, workload, name, target):
        with make_side(name, subject, workload, self._options, self._run_directory) as side:
            if self.data is None:
                self.data = measure_ratios(side.subject, side.filled)
            procedure = wake.measure if workload.wakes else throughput.measure
            return procedure(side, workload, self._options, self._progress.step, target)
