# SPDX-License-Identifier: Apache-2.0
"""Measures the proactive policy: no limit, and our manager looks for cold memory within a stall. How much of the memory that
nobody touches is gone, and after how long; and how fast the subject is meanwhile, against the same subject left alone."""

import time
from statistics import median

from .plan import OURS, PAGE

MAX_STALL = 0.005   # the command line's default
COLD_WANTED = 0.95  # of what nobody touches
_PIECES = 64        # of the heat map; the hot set ends where a piece does
_WARM_UP_SECONDS = 0.5
_CHUNK_SECONDS = 1.0
_LOOK_SECONDS = 0.5
_STILL_SECONDS = 6.0  # no more became cold for so long: no more will


def cold_share(pieces, hot_pages, pages):
    """Of the pages that nobody touches, which are all after the hot ones: those that are neither resident nor staged. `pieces`: a
    heat map's, (hot, resident, staged, cold) each."""
    first = hot_pages * len(pieces) // pages
    return sum(piece[3] for piece in pieces[first:]) / (pages - hot_pages)


class ColdWatch:
    """Looks now and again at how much is cold: [seconds since it began, share], and what the host still has to keep."""

    def __init__(self, side, hot_pages, pages):
        self._side, self._hot_pages, self._pages = side, hot_pages, pages
        self._began = time.monotonic()
        self._next = 0.0
        self.curve = []

    @property
    def passed(self):
        return time.monotonic() - self._began

    @property
    def share(self):
        return self.curve[-1][1] if self.curve else 0.0

    @property
    def still_for(self):
        """Seconds since the share last grew; 0 where nothing is cold yet."""
        return self.passed - next(when for when, share in self.curve if share >= self.share) if self.share else 0.0

    def look(self):
        if self.passed >= self._next:
            self._next = self.passed + _LOOK_SECONDS
            share = cold_share(self._side.heat(_PIECES), self._hot_pages, self._pages)
            self.curve.append([round(self.passed, 2), round(share, 4)])


def measure(side, workload, options, progress, _target):
    """A dictionary, like those of the other procedures. Either side runs as long; ours longer where its cold memory is not gone."""
    sizes, durations = options.sizes, options.durations
    progress("warming up")
    side.subject.command(workload.command(sizes, durations, _WARM_UP_SECONDS))
    before = side.total()
    watch = None
    if side.name == OURS:
        side.set_proactive(MAX_STALL)
        if workload.hot_share:
            watch = ColdWatch(side, workload.hot_pages(sizes), sizes.working_set // PAGE)
    progress("measuring")
    chunks, began = [], time.monotonic()
    cpu = side.cpu_seconds()
    while _goes_on(time.monotonic() - began, watch, durations):
        chunks.append(side.subject.command(workload.command(sizes, durations, _CHUNK_SECONDS),
                                           tick=watch.look if watch else None))
        if watch:
            progress(f"{watch.share:.0%} of the cold memory gone")
    cpu = side.cpu_seconds() - cpu
    accesses = sum(chunk["accesses"] for chunk in chunks)
    return {
        "value": accesses / sum(chunk["seconds"] for chunk in chunks),
        "wrong": sum(chunk["wrong"] for chunk in chunks),
        **{f"{name}_us": median(chunk[f"{name}_ns"] for chunk in chunks) / 1e3 for name in ("p50", "p99", "p999")},
        "used_bytes": side.total(), "used_before_bytes": before,
        "chunks": [round(chunk["accesses"] / chunk["seconds"]) for chunk in chunks],
        "cpu_us_per_access": cpu * 1e6 / accesses,
        "after": side.figures(),
        **(_cold_figures(watch, side.incompressible) if watch else {}),
    }


def _goes_on(passed, watch, durations):
    if passed < durations.proactive:
        return True
    if watch is None or watch.share >= COLD_WANTED or passed >= durations.cold_most:
        return False
    return watch.still_for < _STILL_SECONDS


def _cold_figures(watch, incompressible):
    """`incompressible`: share of all memory that no store can make smaller, so that it stays."""
    return {"cold_share": watch.share, "cold_share_of_compressible": min(1.0, watch.share / (1 - incompressible)),
            "cold_curve": watch.curve,
            "cold_seconds": next((when for when, share in watch.curve if share >= COLD_WANTED * (1 - incompressible)), None)}
