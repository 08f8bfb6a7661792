# SPDX-License-Identifier: Apache-2.0
"""Measures how fast a workload runs under the limit: warm up and calibrate, then count."""

import time
from statistics import fmean

from .calibration import gap, matches

_CHUNK_SECONDS = 0.5
_SETTLED_CHUNKS = 2


def measure(side, workload, options, progress, target):
    """A dictionary: what the subject counted, and what both the kernel and the side itself say. `target`: the total that the
    side is given."""
    sizes, durations = options.sizes, options.durations
    progress("limiting")
    settle_limit(side, target)
    progress("warming up")
    calibrated = _warm_up(side, workload.command(sizes, durations, _CHUNK_SECONDS), durations, target)
    progress("measuring")
    totals = []
    cpu, before = side.cpu_seconds(), side.figures()
    counted = side.subject.command(workload.command(sizes, durations, durations.measured),
                                   tick=lambda: totals.append(side.total()))
    cpu = side.cpu_seconds() - cpu
    used = fmean(totals)
    return {
        "value": counted["accesses"] / counted["seconds"],
        "wrong": counted["wrong"],
        "p50_us": counted["p50_ns"] / 1e3, "p99_us": counted["p99_ns"] / 1e3, "p999_us": counted["p999_ns"] / 1e3,
        "max_us": counted["max_ns"] / 1e3,
        "used_bytes": int(used), "used_most_bytes": max(totals), "limit_bytes": side.limit,
        "calibrated": calibrated and matches(used, sizes.total), "gap": gap(used, sizes.total),
        "cpu_us_per_access": cpu * 1e6 / counted["accesses"],
        "before": before, "after": side.figures(),
    }


def settle_limit(side, target, tries=6):
    """Sets the limit and corrects it for what is used beside it, with the subject at rest. Only downwards: at rest no page comes
    back because there is room again."""
    side.set_limit(target)
    for _ in range(tries):
        total = _settled_total(side)
        if total <= target or matches(total, target):
            break
        side.set_limit(side.limit_for(total, target))


def _settled_total(side, seconds=10.0):
    """Once the limit holds and it has stopped falling: the kernel reclaims before it returns, our manager behind."""
    end = time.monotonic() + seconds
    last = side.total()
    while time.monotonic() < end:
        time.sleep(0.1)
        now = side.total()
        if side.limit_holds() and now >= last - (1 << 20):
            return now
        last = now
    return last


def _warm_up(side, command, durations, target):
    """Runs the workload until the totals match and enough time has passed; False if they never did."""
    began = time.monotonic()
    settled = 0
    while True:
        totals = []
        side.subject.command(command, tick=lambda: totals.append(side.total()))
        total = fmean(totals[len(totals) // 2:] or [side.total()])
        settled = settled + 1 if matches(total, target) else 0
        passed = time.monotonic() - began
        if settled >= _SETTLED_CHUNKS and passed >= durations.warm_up:
            return True
        if passed >= durations.warm_up_most:
            return False
        if not settled:
            side.set_limit(side.limit_for(total, target))
