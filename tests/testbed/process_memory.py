# SPDX-License-Identifier: Apache-2.0
"""What a process takes of the host's memory."""

from pathlib import Path

from .sizes import KIB


def private_bytes(pid):
    """Its anonymous memory that is there now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * KIB
    raise ProcessLookupError(pid)


def descriptors(pid):
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
