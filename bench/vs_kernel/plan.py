# SPDX-License-Identifier: Apache-2.0
"""What is measured: the workloads, their sizes and how long each step takes. Plain data."""

from dataclasses import dataclass, field

from testbed.sizes import MIB

PAGE = 4096
LINUX_GUEST = "linux-guest"
SUBJECTS = {
    "process": "a process that touches its own memory",
    "kvm": "a guest under /dev/kvm that touches its memory",
    LINUX_GUEST: "Linux under libvirt and QEMU with Redis or SQLite; its client counts",
    "engine": "one fault alone, beside a bare userfaultfd loop",
}
MEMORY_SUBJECTS = ("process", "kvm")
OURS = "ours"
WITHOUT = "without"  # the same subject, left alone

THROUGHPUT, WAKE, PROACTIVE, SAVED, FAULT = "throughput", "wake", "proactive", "saved", "fault"  # procedures
_UNITS = {WAKE: "s", SAVED: "bytes", FAULT: "us"}


@dataclass(frozen=True)
class Durations:
    """Seconds."""
    warm_up: float        # at least, before the measured phase
    warm_up_most: float   # then it is measured even where the totals do not match yet, and the row says so
    measured: float
    phase: float          # workload "phases": how long the hot set stays
    idle: float           # workload "wake": between the limit and its end
    wake_most: float      # then we stop waiting for full speed
    proactive: float      # how long either side runs, at least
    cold_most: float      # within which the cold memory must be gone
    step: float           # workload "saved": at each total


SHORT = Durations(warm_up=1, warm_up_most=2.5, measured=1.5, phase=1, idle=0.5, wake_most=5, proactive=6, cold_most=60, step=1)
FULL = Durations(warm_up=5, warm_up_most=15, measured=6, phase=2, idle=2, wake_most=30, proactive=60, cold_most=60, step=3)


@dataclass(frozen=True)
class Sizes:
    total: int  # what either side may take of the host, in bytes
    times: float = 2.0  # so much more the subject would take of it

    @property
    def working_set(self):
        return round(self.total * self.times)

    @property
    def pages(self):
        return self.working_set // PAGE


def sizes_of(subject, sizes):
    """A Linux guest gets three quarters of what its domain would take: QEMU and what it translates, which no side can make
    smaller, and the guest's kernel are in there too, so that far less than three quarters of the records fit."""
    return Sizes(sizes.total * 9 // 4, 4 / 3) if subject == LINUX_GUEST else sizes


SHORT_TOTAL = 128 * MIB
FULL_TOTAL = 256 * MIB


@dataclass(frozen=True)
class Workload:
    name: str
    about: str
    pattern: str = ""       # what the subject calls it, where that is another name
    hot_share: float = 0.0  # of the total, where it has a hot set
    procedure: str = THROUGHPUT
    in_order: bool = False  # the kernel's side may read ahead; elsewhere that only costs it, so it may not
    work: int = 0           # nanoseconds of computing that go with each access
    subjects: tuple = MEMORY_SUBJECTS
    unit: str = field(default="")

    def __post_init__(self):
        object.__setattr__(self, "unit", self.unit or _UNITS.get(self.procedure, "accesses/s"))

    @property
    def lower_is_better(self):
        return self.procedure in (WAKE, FAULT)

    def hot_pages(self, sizes):
        return int(self.hot_share * sizes.total) // PAGE

    def command(self, sizes, durations, seconds):
        """What the subject is told."""
        words = ["run", self.pattern or self.name, f"{seconds:g}"]
        if self.hot_share:
            words += ["hot-pages", str(self.hot_pages(sizes))]
        if self.name == "phases":
            words += ["period", f"{durations.phase:g}"]
        if self.work:
            words += ["work", str(self.work)]
        return " ".join(words)


WORKLOADS = {workload.name: workload for workload in (
    Workload("random", "uniform over all of the working set"),
    Workload("zipf", "Zipf 0.99, ranks scattered over all pages"),
    Workload("sequential", "a cyclic scan", in_order=True),
    Workload("strided", "every eighth page, then the same shifted by one", in_order=True),
    Workload("phases", "a hot set of 3/4 of the total that moves every few seconds", hot_share=0.75),
    Workload("hot-cold", "a hot set of half of the total, the rest cold", hot_share=0.5),
    Workload("wake", "all idle under the limit, then the limit is lifted: seconds until 95 % of full speed",
             pattern="random", procedure=WAKE),
    Workload("proactive-cold", "no limit, proactive: a hot set of half of the total, the rest cold; against running without us",
             pattern="hot-cold", hot_share=0.5, procedure=PROACTIVE, subjects=("process",)),
    Workload("proactive-hot", "no limit, proactive: uniform over all of the working set; against running without us",
             pattern="random", procedure=PROACTIVE, subjects=("process",)),
    Workload("saved", "Zipf with 4 us of computing for each access: memory saved where 90 % of full speed is left",
             pattern="zipf", procedure=SAVED, work=4000, subjects=("process",)),
    Workload("redis", "Redis: one request at a time, keys by Zipf 0.99, records of 1000 bytes, a fifth SET",
             subjects=(LINUX_GUEST,), unit="requests/s"),
    Workload("sqlite", "SQLite on tmpfs: the same with SELECT and UPDATE", subjects=(LINUX_GUEST,), unit="requests/s"),
    Workload("fault", "a staged page and a cold one, beside UFFDIO_COPY alone, on one CPU", procedure=FAULT,
             subjects=("engine",)),
)}

# --short leaves these to the full run, to stay within ten minutes.
_NOT_IN_SHORT = {"kvm": ("zipf", "strided", "phases", "hot-cold")}


@dataclass(frozen=True)
class Comparison:
    """One row: these sides in turns, so many rounds."""
    subject: str
    workload: Workload
    sides: tuple
    rounds: int


def comparisons(subjects, workloads, rivals, rounds, short=False):
    """Those that exist, in the order in which they are measured. `workloads`: None for all."""
    chosen = []
    for subject in subjects:
        for workload in workloads or WORKLOADS.values():
            if subject not in workload.subjects or workload.procedure == FAULT:
                continue
            if short and workloads is None and workload.name in _NOT_IN_SHORT.get(subject, ()):
                continue
            # A difference of one per cent cannot be seen in a single pair.
            proactive = workload.procedure == PROACTIVE
            chosen.append(Comparison(subject, workload, (OURS, WITHOUT) if proactive else (OURS, *rivals),
                                     max(rounds, 3) if proactive else rounds))
    return chosen


def measures_faults(subjects, workloads):
    return "engine" in subjects and (workloads is None or any(workload.procedure == FAULT for workload in workloads))


# What a measurement takes beside its own phases: starting, filling, limiting, ending. Seconds on a quiet machine.
_BESIDE = {"process": 1.5, "kvm": 1.5, LINUX_GUEST: 16}
_FAULT_SECONDS = 12
_SAVED_STEPS = 5  # usually


def expected_seconds(chosen, faults, durations):
    """About how long these comparisons take."""
    each = {THROUGHPUT: (durations.warm_up + durations.warm_up_most) / 2 + durations.measured, WAKE: durations.idle + durations.wake_most / 2,
            PROACTIVE: durations.proactive, SAVED: _SAVED_STEPS * 3.5 * durations.step}
    seconds = _FAULT_SECONDS if faults else 0
    for row in chosen:
        seconds += row.rounds * len(row.sides) * (_BESIDE[row.subject] + each[row.workload.procedure])
        if row.workload.procedure == PROACTIVE and row.workload.hot_share:
            seconds += row.rounds * max(0, 25 - durations.proactive)  # until the cold memory is gone
    return seconds
