# SPDX-License-Identifier: Apache-2.0
"""What is measured: the workloads, their sizes and how long each step takes. Plain data."""

from dataclasses import dataclass

from testbed.sizes import MIB

PAGE = 4096
SUBJECTS = {
    "process": "a process that touches its own memory",
    "kvm": "a guest under /dev/kvm that touches its memory",
}


@dataclass(frozen=True)
class Durations:
    """Seconds."""
    warm_up: float        # at least, before the measured phase
    warm_up_most: float   # then it is measured even where the totals do not match yet, and the row says so
    measured: float
    phase: float          # workload "phases": how long the hot set stays
    idle: float           # workload "wake": between the limit and its end
    wake_most: float      # then we stop waiting for full speed


SHORT = Durations(warm_up=2, warm_up_most=5, measured=3, phase=1, idle=0.5, wake_most=6)
FULL = Durations(warm_up=5, warm_up_most=15, measured=6, phase=2, idle=2, wake_most=30)


@dataclass(frozen=True)
class Sizes:
    total: int  # what either side may take of the host, in bytes

    @property
    def working_set(self):
        return 2 * self.total

    @property
    def pages(self):
        return self.working_set // PAGE


SHORT_TOTAL = 128 * MIB
FULL_TOTAL = 256 * MIB


@dataclass(frozen=True)
class Workload:
    name: str
    about: str
    hot_share: float = 0.0  # of the total, where it has a hot set
    wakes: bool = False     # measured as a time, by another procedure
    in_order: bool = False  # the kernel's side may read ahead; elsewhere that only costs it, so it may not

    def command(self, sizes, durations, seconds):
        """What the subject is told. The procedure of "wake" touches everything at random."""
        words = ["run", "random" if self.wakes else self.name, f"{seconds:g}"]
        if self.hot_share:
            words += ["hot-pages", str(int(self.hot_share * sizes.total) // PAGE)]
        if self.name == "phases":
            words += ["period", f"{durations.phase:g}"]
        return " ".join(words)


WORKLOADS = {workload.name: workload for workload in (
    Workload("random", "uniform over all of the working set"),
    Workload("zipf", "Zipf 0.99, ranks scattered over all pages"),
    Workload("sequential", "a cyclic scan", in_order=True),
    Workload("strided", "every eighth page, then the same shifted by one", in_order=True),
    Workload("phases", "a hot set of 3/4 of the total that moves every few seconds", hot_share=0.75),
    Workload("hot-cold", "a hot set of half of the total, the rest cold", hot_share=0.5),
    Workload("wake", "all idle under the limit, then the limit is lifted: seconds until 95 % of full speed", wakes=True),
)}
