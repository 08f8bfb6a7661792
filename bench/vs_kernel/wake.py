# SPDX-License-Identifier: Apache-2.0
"""Measures how long it takes to full speed after a limit is lifted: everything was idle under the limit, then all of it is
touched at random."""

import time
from statistics import fmean, median

from .calibration import gap, matches
from .throughput import settle_limit

SHARES = (0.5, 0.8, 0.95)
SLICE_SECONDS = 0.02
WINDOW_SLICES = 5
_PIECE_SECONDS = 1.0
_BASE_SECONDS = 2.0


def measure(side, workload, options, progress, target):
    sizes, durations = options.sizes, options.durations
    progress("full speed")
    side.subject.command(workload.command(sizes, durations, 0.3))
    full = side.subject.command(f"{workload.command(sizes, durations, _BASE_SECONDS)} slice {SLICE_SECONDS}")
    full_speed = usual_speed(full["slices"])
    progress("limiting")
    settle_limit(side, target)
    time.sleep(durations.idle)
    used, before = side.total(), side.figures()
    progress("waking")
    lifted = time.monotonic()
    side.lift_limit()
    slices, wrong = [], full["wrong"]
    reached = dict.fromkeys(SHARES)
    while reached[SHARES[-1]] is None and time.monotonic() - lifted < durations.wake_most:
        piece = side.subject.command(f"{workload.command(sizes, durations, _PIECE_SECONDS)} slice {SLICE_SECONDS}")
        wrong += piece["wrong"]
        slices += slices_after(piece, lifted)
        for share in SHARES:
            reached[share] = first_at(slices, share * full_speed)
    last = reached[SHARES[-1]]
    return {
        "value": durations.wake_most if last is None else last,
        "at_least": last is None,
        "wrong": wrong,
        "full_speed": full_speed,
        "seconds_to_share": {str(share): when for share, when in reached.items()},
        "slices": [[round(when, 4), round(speed)] for when, speed in slices],
        "calibrated": matches(used, sizes.total), "gap": gap(used, sizes.total),
        "used_bytes": used, "limit_bytes": side.limit,
        "before": before, "after": side.figures(),
    }


def usual_speed(counts):
    """What half of all windows reach: the machine is faster and slower from one moment to the next, and what is held against this
    is the mean of a window, too. The last slice is not whole."""
    return median(_window_means(counts[:-1])) / SLICE_SECONDS


def slices_after(piece, lifted):
    """(end of the slice in seconds after the lifting, accesses per second) of one run; its last slice is not whole."""
    return [(piece["began"] - lifted + (number + 1) * SLICE_SECONDS, count / SLICE_SECONDS)
            for number, count in enumerate(piece["slices"][:-1])]


def first_at(slices, speed):
    """When the mean over a window first is at least `speed`: the end of that window; None if never."""
    for number, mean in enumerate(_window_means([value for _, value in slices])):
        if mean >= speed:
            return slices[number + WINDOW_SLICES - 1][0]
    return None


def _window_means(values):
    return [fmean(values[start:start + WINDOW_SLICES]) for start in range(len(values) - WINDOW_SLICES + 1)]
