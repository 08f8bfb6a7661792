# SPDX-License-Identifier: Apache-2.0
"""What processes take, over time, and whether that stays so."""

import statistics

from testbed.process_memory import descriptors, private_bytes
from testbed.sizes import MIB

GROWTH = 1.25
SLACK = {"thermoclined": 2 * MIB, "manager": 4 * MIB}
MORE_FILES = 8


class Flatness:
    """The first quarter of the samples is the time in which things settle; the second is what the last is held against."""

    def __init__(self, name, kind):
        self._name = name
        self._slack = SLACK[kind]
        self._bytes = []
        self._files = []

    def sample(self, pid):
        self._bytes.append(private_bytes(pid))
        self._files.append(descriptors(pid))

    @property
    def now(self):
        return self._bytes[-1]

    def _quarters(self, samples):
        quarter = max(1, len(samples) // 4)
        return statistics.median(samples[quarter:2 * quarter] or samples), statistics.median(samples[-quarter:])

    def judge(self):
        """Figures for the report, with what is wrong in `problems`."""
        before, after = self._quarters(self._bytes)
        files_before, files_after = self._quarters(self._files)
        bound = before * GROWTH + self._slack
        problems = []
        if after > bound:
            problems.append(f"{self._name} grew from {before / MIB:.1f} to {after / MIB:.1f} MiB; {bound / MIB:.1f} are allowed")
        if files_after > files_before + MORE_FILES:
            problems.append(f"{self._name} had {files_before:.0f} files open, and then {files_after:.0f}")
        return {"bytes_before": int(before), "bytes_after": int(after), "bytes_most": max(self._bytes), "bytes_bound": int(bound),
                "files_before": int(files_before), "files_after": int(files_after), "problems": problems}
