# SPDX-License-Identifier: Apache-2.0
"""What is run: one round is one tester under one limit. Plain data."""

from dataclasses import dataclass

from testbed.memory_testers import Memtester, StressNg
from testbed.sizes import MIB

SHARES = (75, 50, 25)  # limits, in percent of the guest's memory
# As much of a guest's memory as its own system leaves; but where the limit is low, no more than lets it get on: of the
# limit this much is the system's, and what of it does not compress.
_TESTED_OF_MEMORY = 1 / 2
_SYSTEM_BYTES = 40 * MIB
_OWN_OF_MEMORY = 1 / 16
# memtester's Sequential Increment: cheap, and what it leaves behind compresses. (Its comparisons need Random Value to have
# run before; alone they report failures on any machine.)
_QUICK_TEST = 1 << 7


@dataclass(frozen=True)
class Round:
    share: int  # percent
    tester: StressNg | Memtester
    own_bytes: int  # filled before and verified after by guestmem: what the tester pushes out
    seconds: float  # deadline

    @property
    def name(self):
        return f"{self.tester.name} at {self.share} %"


def _rounds(memory_bytes, shares, seconds, testers_of):
    found = []
    for share in shares:
        tested = int(min(memory_bytes * _TESTED_OF_MEMORY, memory_bytes * share / 100 - _SYSTEM_BYTES)) // MIB * MIB
        # memtester goes over all of its memory in order: where a part does not fit, each pass brings back all of it.
        in_order = tested if share >= 50 else tested // 3
        found += [Round(share, tester, int(memory_bytes * _OWN_OF_MEMORY) // MIB * MIB, seconds)
                  for tester in testers_of(tested, in_order)]
    return found


def short_plan(memory_bytes, shares=SHARES):
    """A minute or two in all in a small guest without KVM."""
    return _rounds(memory_bytes, shares, 200.0, lambda tested, in_order: (
        StressNg(tested, operations=1500), Memtester(in_order, mask=_QUICK_TEST)))


def full_plan(memory_bytes, shares=SHARES):
    """Every test of both, over and over: hours without KVM."""
    return _rounds(memory_bytes, shares, 6 * 3600.0, lambda tested, in_order: (
        StressNg(tested, operations=200_000), StressNg(tested, operations=100_000, workers=4), Memtester(in_order)))
