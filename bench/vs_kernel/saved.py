# SPDX-License-Identifier: Apache-2.0
"""Measures how much memory a side saves at a given slow-down: the total goes down in equal steps, from all that the subject takes
without a limit, until its speed is below the wanted share of full speed twice in a row. Whatever else the machine does makes a
step slower, never faster, and less memory never helps: so a step counts as fast as the fastest one with as much memory or
less. The memory at just the wanted share lies on the straight line between two steps."""

from statistics import fmean

from .throughput import settle_limit

SPEED_SHARE = 0.9
STEP_SHARE = 1 / 32  # of the working set
_MOST_STEPS = 16     # below that a store is nearly all that is left
_SETTLE_TRIES = 2    # what is used is measured: the total need not be hit


def measure(side, workload, options, progress, _target):
    sizes, durations = options.sizes, options.durations
    progress("full speed")

    def run(seconds, **more):
        return side.subject.command(workload.command(sizes, durations, seconds), **more)

    wrong = run(durations.step)["wrong"]
    full_bytes = side.total()
    full = run(2 * durations.step)
    full_speed, wrong = full["accesses"] / full["seconds"], wrong + full["wrong"]
    curve = [(full_bytes, 1.0)]
    for number in range(1, _MOST_STEPS + 1):
        target = int(full_bytes - number * STEP_SHARE * sizes.working_set)
        progress(f"at {target / full_bytes:.0%} of its memory")
        settle_limit(side, target, _SETTLE_TRIES)
        wrong += run(2 * durations.step)["wrong"]  # what was taken wrongly comes back
        totals = []
        found = run(durations.step, tick=lambda: totals.append(side.total()))  # pylint: disable=cell-var-from-loop
        wrong += found["wrong"]
        curve.append((int(fmean(totals or [side.total()])), found["accesses"] / found["seconds"] / full_speed))
        if all(share < SPEED_SHARE for _, share in curve[-2:]):
            break
    used = bytes_at(curve, SPEED_SHARE)
    return {
        "value": full_bytes - (min(total for total, _ in curve) if used is None else used),
        "at_least": used is None,
        "wrong": wrong,
        "full_bytes": full_bytes, "full_speed": full_speed,
        "curve": [[total, round(share, 4)] for total, share in curve],
        "used_bytes": curve[-1][0] if used is None else used, "limit_bytes": side.limit,
        "after": side.figures(),
    }


def bytes_at(curve, share):
    """Where the speed falls below `share`, on a straight line; None where it does not. `curve`: (bytes, share of full speed), from
    the most memory to the least."""
    falling = []
    for total, speed in reversed(curve):
        falling.insert(0, (total, max(speed, falling[0][1]) if falling else speed))
    for (more, faster), (less, slower) in zip(falling, falling[1:]):
        if slower < share:
            return int(less + (more - less) * (share - slower) / (faster - slower))
    return None
