# SPDX-License-Identifier: Apache-2.0
"""One side of a comparison for one measurement: a subject in a cgroup of its own, and what limits its memory. `total` is all
that it takes of the host, counted by the kernel in the same way for both sides."""

import contextlib
import tempfile
from pathlib import Path

from .calibration import next_limit, pool_share
from .cgroup import MemoryCgroup
from .fresh_statistics import FreshStatistics
from .host_file import changed
from .manager import Manager
from .rivals import RIVALS, SWAP_DIRECTORY
from .plan import OURS, WITHOUT
from .subject import cpu_seconds

_LEAST_LIMIT = 16 << 20  # of our manager
_READ_AHEAD = Path("/proc/sys/vm/page-cluster")


class Side:
    """Context manager: the subject is filled inside, and everything is gone outside. `make_subject`: takes the cgroup that
    it shall be in."""

    def __init__(self, name, make_subject, options, run_directory):
        self.name = name
        self.limit = None
        self.incompressible = 0.0  # share of the subject's memory
        self._options = options
        self._make_subject = make_subject
        self._run_directory = run_directory
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self._stack = stack
            self._prepare()
            self.cgroup = stack.enter_context(MemoryCgroup())
            self.subject = self._enter_subject()
            self.filled = self.subject.command("fill")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception):
        return self._stack.__exit__(*exception)

    def _prepare(self):
        """Before there is a subject."""

    def _enter_subject(self):
        return self._stack.enter_context(self._make_subject(self.cgroup))

    def total(self):
        raise NotImplementedError

    def set_limit(self, limit):
        raise NotImplementedError

    def lift_limit(self):
        raise NotImplementedError

    def limit_for(self, total, target):
        """The limit to try next, now that `total` is taken."""
        raise NotImplementedError

    def limit_holds(self):
        """Has what is in use come down to the limit?"""
        return True

    def cpu_seconds(self):
        return cpu_seconds(self.subject.pid)

    def figures(self):
        """What this side alone can tell, for the record."""
        return {}


class OurSide(Side):
    """The manager is in the subject's cgroup, which has no limit: the kernel counts the subject's pages, the manager's own
    memory and its store."""

    def __init__(self, make_subject, options, run_directory):
        super().__init__(OURS, make_subject, options, run_directory)
        self._manager = None

    def attach(self):
        if self._manager is None:
            directory = Path(tempfile.mkdtemp(dir=self._run_directory))
            tier = SWAP_DIRECTORY if self._options.file_tier else None
            manager = Manager(self._options.manager, self.subject.pid, directory, self.cgroup, tier)
            self._manager = self._stack.enter_context(manager)
            # The manager leaves when its process does.
            self._stack.callback(self.subject.process.kill)

    def total(self):
        return self.cgroup.used

    def set_limit(self, limit):
        self.attach()
        self._manager.set_limit(limit)
        self.limit = limit

    def lift_limit(self):
        self._manager.set_limit(0)

    def set_proactive(self, max_stall):
        self.attach()
        self._manager.call("set-proactive", max_stall=max_stall)

    def heat(self, pieces):
        """(hot, resident, staged, cold) pages of each piece."""
        return self._manager.call("heat", pieces=pieces)["pieces"]

    def limit_for(self, total, target):
        # Never above the total: the limit is part of it. Never below what the manager takes (docs/manager-protocol.md).
        least = max(_LEAST_LIMIT, self._manager.status()["memory_bytes"] // 16)
        return max(least, min(target, next_limit(self.limit, total, target)))

    def limit_holds(self):
        return self._manager.status()["limit_met"]

    def cpu_seconds(self):
        return super().cpu_seconds() + (cpu_seconds(self._manager.pid) if self._manager else 0)

    def figures(self):
        return {"status": self._manager.status()} if self._manager else {}


class SideWithout(Side):
    """The subject left alone."""

    def __init__(self, make_subject, options, run_directory):
        super().__init__(WITHOUT, make_subject, options, run_directory)

    def total(self):
        return self.cgroup.used


class KernelSide(Side):
    """The cgroup has a limit, and what does not fit goes to the rival's swap. `reads_ahead`: as much as the host is set to;
    otherwise a fault brings in its page only, as one sets it for swap in memory."""

    def __init__(self, name, make_subject, options, run_directory, reads_ahead):
        super().__init__(name, make_subject, options, run_directory)
        self._reads_ahead = reads_ahead

    def _enter_subject(self):
        self._stack.enter_context(FreshStatistics(self.cgroup.statistics))
        return super()._enter_subject()

    def _prepare(self):
        if not self._reads_ahead:
            self._stack.enter_context(changed(_READ_AHEAD, "0"))
        self._rival = self._stack.enter_context(RIVALS[self.name](self._options.sizes.working_set))

    def total(self):
        return self.cgroup.used + self._rival.pool_bytes()

    def set_limit(self, limit):
        self.cgroup.limit(limit)
        self.limit = limit

    def lift_limit(self):
        self.cgroup.unlimit()

    def limit_for(self, total, target):
        used = self.cgroup.used
        share = pool_share(self._rival.pool_bytes(), self._options.sizes.working_set - used)
        return next_limit(self.limit, total, target, share)

    def figures(self):
        return {"pool_bytes": self._rival.pool_bytes(), "cgroup_bytes": self.cgroup.used}


def make_side(name, make_subject, options, run_directory, reads_ahead):
    if name == OURS:
        return OurSide(make_subject, options, run_directory)
    if name == WITHOUT:
        return SideWithout(make_subject, options, run_directory)
    return KernelSide(name, make_subject, options, run_directory, reads_ahead)
