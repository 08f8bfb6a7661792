# SPDX-License-Identifier: Apache-2.0
"""Which limit to set so that all that a side takes of the host adds up to the same total. Arithmetic only.

The kernel's cgroup limit bounds resident memory, but not the pool in which zram or zswap keeps the rest: every byte less
resident is a byte more to compress. Our manager's limit bounds both, but not the manager's own memory."""

TOLERANCE = 0.02
_LEAST_LIMIT = 8 << 20
_STEEPEST = 0.85  # a pool that takes more of each byte is not one; keeps a wild first reading from a wild step


def pool_share(pool, swapped):
    """Bytes of pool for each byte swapped out."""
    return min(max(pool / swapped, 0.0), _STEEPEST) if swapped > 0 else 0.0


def next_limit(limit, total, target, share=0.0):
    """The limit that should bring `total` to `target`, where lowering it by one byte adds `share` bytes elsewhere."""
    return max(_LEAST_LIMIT, int(limit + (target - total) / (1.0 - share)))


def matches(total, target):
    return abs(total - target) <= TOLERANCE * target


def gap(total, target):
    """Of the target; above it positive."""
    return (total - target) / target
