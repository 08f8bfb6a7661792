# SPDX-License-Identifier: Apache-2.0
"""How much memory the host may offer to servers: what it has, and what overcommit really yields. Pure arithmetic; the figures
come from the daemon, the rules are in docs/nova.md."""

from dataclasses import dataclass
from enum import IntEnum

MIB = 1 << 20
# What storing takes, as a share of what is stored, until the host's servers show it: what ordinary memory compresses to.
_ASSUMED_COST = 1 / 3
# Less than this share of a server's memory in its store says little of the rest.
_TELLING = 1 / 64


class Pressure(IntEnum):
    """How little of the host's head-room is left, and what follows."""

    NONE = 0
    SHRINKS = 1  # some is missing: it comes off the offer
    FULL = 2     # less than half: the host takes no more servers
    MOVES = 3    # less than a quarter, after it was full: servers are to go


@dataclass(frozen=True)
class Rules:
    """As the options of the same names; sizes in MiB."""

    safety_margin: float
    max_ratio: float
    headroom_mb: int
    hysteresis_mb: int


@dataclass(frozen=True)
class Offer:
    """total: of MEMORY_MB, in MiB; missing: of the head-room, in MiB."""

    total: int
    pressure: Pressure
    missing: int

    @property
    def full(self):
        """True where the host takes no more servers."""
        return self.pressure >= Pressure.FULL


def storing_cost(domains):
    """What the stores of these domains, all together, take as a share of what is in them."""
    cold = sum(each.cold for each in domains)
    telling = sum(each.memory for each in domains if each.cold) * _TELLING
    return sum(each.store for each in domains) / cold if cold and cold >= telling else _ASSUMED_COST


def yielded_bytes(figures, others_cost=_ASSUMED_COST):
    """What this domain's memory costs less than it was sold for. others_cost: storing_cost() of the host's domains.

    Under a limit of its own that is met: all above the limit, since it holds whatever the guest does, as far as the store can hold
    what the guest may touch yet, at what storing has cost so far. Without one: what is stored, less what storing it takes; memory that
    was never touched does not count, since the guest may touch it. So it is where the limit is the host's budget's: that one moves."""
    if figures.state != "attached":
        return 0
    if figures.limit and figures.limit != figures.allotment:
        cost = figures.store / figures.cold if figures.cold >= figures.memory * _TELLING else others_cost
        holds = figures.frozen + (figures.memory - figures.frozen) * (1 - cost) - figures.metadata
        above = figures.memory - max(figures.limit, figures.used)
        return max(0, int(min(above, holds))) if figures.limit_met else 0
    saved = figures.cold + figures.frozen - figures.store - figures.metadata
    return max(0, min(saved, figures.memory - figures.used))


class Capacity:
    """Remembers what was offered last, so that small changes are not reported. One per compute node; not thread-safe."""

    def __init__(self, rules):
        self._rules = rules
        self._last = None

    def offer(self, host_mb, available_mb, host):
        """host_mb: what stock Nova reports, which is the floor; available_mb: of the host's memory now (MemAvailable);
        host: HostFigures."""
        rules = self._rules
        missing = max(0, rules.headroom_mb - available_mb)
        total = max(host_mb, int(min(self._base(host_mb, host) + self._yielded_mb(host), host_mb * rules.max_ratio)) - missing)
        pressure = self._pressure(available_mb)
        last = self._last
        # The floor is told however small the step: what is left is not there to be given out.
        if last is not None and abs(total - last.total) < rules.hysteresis_mb and total != host_mb:
            total = max(host_mb, last.total)
        if pressure == Pressure.MOVES and not (last and last.full):
            pressure = Pressure.FULL  # one report's time for what comes before: most pressure is gone by then
        self._last = Offer(total, pressure, missing)
        return self._last

    def forget(self):
        """The daemon is away: the next offer follows its figures at once."""
        self._last = None

    @staticmethod
    def _base(host_mb, host):
        """What there is to share out: the host's memory, and no more than the budget lets its attached domains take, beside what the
        others run with."""
        if host.budget is None:
            return host_mb
        others = sum(each.memory for each in host.domains.values() if each.running and each.state != "attached")
        return min(host_mb, (host.budget + others) // MIB)

    def _yielded_mb(self, host):
        domains = host.domains.values()
        cost = storing_cost(domains)
        return sum(yielded_bytes(each, cost) for each in domains) / MIB * (1 - self._rules.safety_margin)

    def _pressure(self, available_mb):
        headroom = self._rules.headroom_mb
        if available_mb < headroom / 4:
            return Pressure.MOVES
        if available_mb < headroom / 2:
            return Pressure.FULL
        return Pressure.SHRINKS if available_mb < headroom else Pressure.NONE
