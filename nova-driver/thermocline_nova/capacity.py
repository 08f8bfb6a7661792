# SPDX-License-Identifier: Apache-2.0
"""How much memory the host may offer to servers: what it has, and what overcommit really yields. Pure arithmetic; the figures
come from the daemon, the rules are in docs/nova.md."""

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True)
class Rules:
    """As the options of the same names; sizes in MiB."""

    safety_margin: float
    max_ratio: float
    headroom_mb: int
    hysteresis_mb: int


@dataclass(frozen=True)
class Offer:
    """total: of MEMORY_MB, in MiB; full: the host takes no more servers; pressure: 0 none, 1 it shrinks, 2 it is full."""

    total: int
    full: bool
    pressure: int


def yielded_bytes(figures):
    """What this domain's memory costs less than it was sold for.

    Under a limit that is met: all above the limit, since it holds whatever the guest does. Without one: what is stored,
    less what storing it takes; memory that was never touched does not count, since the guest may touch it."""
    if figures.state != "attached":
        return 0
    if figures.limit:
        return max(0, figures.memory - max(figures.limit, figures.used)) if figures.limit_met else 0
    saved = figures.cold + figures.frozen - figures.store - figures.metadata
    return max(0, min(saved, figures.memory - figures.used))


class Capacity:
    """Remembers what was offered last, so that small changes are not reported. One per compute node; not thread-safe."""

    def __init__(self, rules):
        self._rules = rules
        self._last = None

    def offer(self, host_mb, available_mb, figures):
        """host_mb: what stock Nova reports, which is the floor; available_mb: of the host's memory now (MemAvailable);
        figures: of each domain."""
        rules = self._rules
        yielded = sum(map(yielded_bytes, figures)) / MIB * (1 - rules.safety_margin)
        missing = max(0, rules.headroom_mb - available_mb)
        full = available_mb < rules.headroom_mb / 2
        total = int(min(host_mb + yielded, host_mb * rules.max_ratio)) - missing
        total = max(host_mb, total)
        pressure = 2 if full else 1 if missing else 0
        if self._last is not None and abs(total - self._last) < rules.hysteresis_mb and not self._is_floor(total, host_mb):
            total = max(host_mb, self._last)
        self._last = total
        return Offer(total, full, pressure)

    def forget(self):
        """The daemon is away: the next offer follows its figures at once."""
        self._last = None

    def _is_floor(self, total, host_mb):
        # However small the step: what is left is not there to be given out.
        return total == host_mb
