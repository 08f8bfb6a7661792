# SPDX-License-Identifier: Apache-2.0
"""Keeps a cgroup's statistics fresh, so that the kernel's reclaim works at all with swap as fast as zram.

Reclaim decides by a cgroup's counters whether the active list must be aged (inactive_is_low, prepare_scan_control in
mm/vmscan.c), and has them brought up to date every two seconds only. A working set that goes once round both lists in between
leaves counters that show an inactive list which is empty by then: nothing is aged, nothing can be reclaimed, and the kernel
kills for want of memory while all of it could be swapped out (seen on 6.18: half of the runs). Reading memory.stat brings them
up to date, for about 50 us of another CPU."""

import os
import threading

_SECONDS = 0.001


class FreshStatistics:
    """Context manager: a thread that reads the file now and again."""

    def __init__(self, path):
        self._path = path
        self._stop = threading.Event()

    def __enter__(self):
        self._file = os.open(self._path, os.O_RDONLY)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._stop.set()
        self._thread.join()
        os.close(self._file)

    def _run(self):
        while not self._stop.wait(_SECONDS):
            os.pread(self._file, 1, 0)
