# SPDX-License-Identifier: Apache-2.0
"""Files of the kernel (/proc, /sys) that are read, or changed for a while."""

import contextlib
from pathlib import Path


def read_text(path):
    return Path(path).read_text(encoding="ascii").strip()


def write_text(path, text):
    Path(path).write_text(text, encoding="ascii")


def meminfo_bytes(field):
    """0 where this kernel has no such field."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        name, value = line.split(":")
        if name == field:
            return int(value.split()[0]) * 1024
    return 0


@contextlib.contextmanager
def changed(path, text):
    """The file says `text` while the context lasts, then again what it said before."""
    before = read_text(path)
    write_text(path, text)
    try:
        yield
    finally:
        write_text(path, before)
