# SPDX-License-Identifier: Apache-2.0
"""What the kernel says about a process: threads, descriptors, mappings, memory. Reads only."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mapping:
    start: int
    end: int
    permissions: str
    path: str
    flags: frozenset  # VmFlags
    anonymous_bytes: int

    @property
    def size(self):
        return self.end - self.start


def threads(pid):
    """{tid: name}"""
    found = {}
    for entry in Path(f"/proc/{pid}/task").iterdir():
        try:
            found[int(entry.name)] = (entry / "comm").read_text().strip()
        except OSError:
            continue  # ended meanwhile
    return found


def descriptors(pid):
    """{number: target}"""
    found = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found[int(entry.name)] = os.readlink(entry)
        except OSError:
            continue
    return found


def mappings(pid):
    found = []
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as smaps:
        head, anonymous = None, 0
        for line in smaps:
            first = line.split(None, 1)[0]
            if not first.endswith(":"):
                head, anonymous = line.split(None, 5), 0
            elif first == "Anonymous:":
                anonymous = int(line.split()[1]) * 1024
            elif first == "VmFlags:":
                start, end = (int(part, 16) for part in head[0].split("-"))
                path = head[5].strip() if len(head) > 5 else ""
                found.append(Mapping(start, end, head[1], path, frozenset(line.split()[1:]), anonymous))
    return found


def guest_ram(pid, memory_bytes):
    """Start of guest RAM in its QEMU: the only mapping of exactly that size that is anonymous or of a memfd or one of
    libvirt's files. REQUIRES: not attached, as the staging area could be taken for it."""
    fitting = [m for m in mappings(pid) if m.size == memory_bytes and m.permissions.startswith("rw")
               and (not m.path or m.path.startswith(("/memfd:", "/var/lib/libvirt/qemu/ram/")))]
    if len(fitting) != 1:
        raise AssertionError(f"guest RAM of pid {pid} is not the one mapping that fits: {fitting}")
    return fitting[0].start


def status_bytes(pid, field):
    """A size from /proc/PID/status, for example VmRSS or RssAnon."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"/proc/{pid}/status has no {field}")
