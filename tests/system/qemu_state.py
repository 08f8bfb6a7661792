# SPDX-License-Identifier: Apache-2.0
"""What of a QEMU process must be the same before an attach and after the detach."""

from dataclasses import dataclass

from testbed.deadline import wait_until
from testbed.process_view import descriptors, guest_ram, mappings, threads

# QEMU's thread pool grows and shrinks by itself, whatever happens to the process.
_POOL_THREAD = "worker"
_UFFD_FLAGS = {"um", "uw", "ui"}
# QEMU's own threads come and go with stacks and glibc arenas of up to 64 MiB; a forgotten staging area is as large as guest RAM.
_LARGE = 96 << 20


@dataclass(frozen=True)
class QemuState:
    threads: frozenset  # of tids
    descriptors: tuple
    guest_ram: tuple  # of (start, end, permissions, flags)
    files: frozenset  # mapped ones
    userfault_mappings: tuple
    large_mappings: frozenset  # of (start, end)

    @classmethod
    def of(cls, guest):
        pid = guest.pid
        start = guest_ram(pid, guest.spec.memory_bytes)
        end = start + guest.spec.memory_bytes
        maps = mappings(pid)
        return cls(
            threads=frozenset(tid for tid, name in threads(pid).items() if name != _POOL_THREAD),
            descriptors=tuple(sorted(descriptors(pid).items())),
            guest_ram=tuple((m.start, m.end, m.permissions, tuple(sorted(m.flags)))
                            for m in maps if m.start < end and m.end > start),
            files=frozenset(m.path for m in maps if m.path),
            userfault_mappings=tuple((m.start, m.end) for m in maps if m.flags & _UFFD_FLAGS),
            large_mappings=frozenset((m.start, m.end) for m in maps if m.end - m.start >= _LARGE))

    def differences(self, before):
        """For a person: what is not as it was; empty where all is."""
        found = []
        for name in ("threads", "descriptors", "guest_ram", "files", "userfault_mappings", "large_mappings"):
            old, new = set(getattr(before, name)), set(getattr(self, name))
            if old != new:
                found.append(f"{name}: new {sorted(new - old)}, gone {sorted(old - new)}")
        return found


def require_unchanged(guest, before):
    """A thread that has ended stays visible for a moment, so the look is repeated for a while."""
    last = []

    def same():
        last[:] = QemuState.of(guest).differences(before)
        return not last

    try:
        wait_until("QEMU is as it was", same, 5.0)
    except Exception as error:
        raise AssertionError(f"QEMU is not as it was: {last}") from error
