# SPDX-License-Identifier: Apache-2.0
"""The last answer to memory pressure: Nova is asked to move servers away, the cheapest first, one at a time."""

import threading
import time
from collections import Counter
from dataclasses import dataclass

from nova import context, objects
from oslo_log import log

from .errors import MoveRefused

LOG = log.getLogger(__name__)
MIB = 1 << 20


@dataclass(frozen=True)
class Move:
    """Of one server: what has to be read and sent, and what that frees here; in bytes."""

    server: str
    sends: int
    frees: int
    priority: int

    @property
    def price(self):
        """What one freed byte costs: the bytes that are sent for it, times the server's priority. A server whose memory is in
        the store is dear: all of it has to come back to be sent, and little was taken by it."""
        return self.sends / self.frees * self.priority


def possible_moves(domains):
    """Of {UUID: Figures}, the cheapest first. Servers that nobody asked to overcommit are not moved for those that are."""
    moves = [Move(uuid, each.resident + each.staged + each.cold + each.frozen, each.used, each.priority)
             for uuid, each in domains.items() if each.state == "attached" and each.running and each.used]
    return sorted(moves, key=lambda move: (move.price, move.server))


class Mover:
    """mode: "off", "dry-run" (says what it would ask for) or "on"; interval: seconds from one move to the next, at the least. One per
    compute node; not thread-safe."""

    def __init__(self, mode, interval, host, api, notices):
        self._mode = mode
        self._interval = interval
        self._host = host
        self._api = api
        self._notices = notices
        self._under_way = None
        self._next = 0.0
        self._asked = Counter()

    def relieve(self, domains):
        """The host is under pressure: asks for the next move, if it is time, beside what Nova is doing. domains: {UUID: Figures}."""
        now = time.monotonic()
        if self._mode == "off" or now < self._next or (self._under_way and self._under_way.is_alive()):
            return
        self._next = now + self._interval
        self._under_way = threading.Thread(target=self._move_one, args=(possible_moves(domains),), name="thermocline-mover", daemon=True)
        self._under_way.start()

    def rest(self):
        """The pressure is gone: whoever was asked for before may be asked for again."""
        self._asked.clear()

    def _move_one(self, moves):
        try:
            ours = set(objects.InstanceList.get_uuids_by_host(context.get_admin_context(), self._host))
        except Exception as error:  # whatever RPC raises: the next report tries again
            LOG.warning("No server is moved away: Nova does not say which are this host's: %s", error)
            return
        # Who was refused may be again: the others come first.
        move = min((each for each in moves if each.server in ours), key=lambda each: self._asked[each.server], default=None)
        if move is None:
            LOG.warning("Memory pressure, and no overcommitted server that could be moved away")
            return
        self._asked[move.server] += 1
        outcome, reason = self._ask(move)
        LOG.warning("Memory pressure: move server %s away, which sends %d MiB and frees %d MiB: %s%s", move.server, move.sends // MIB,
                    move.frees // MIB, outcome, f": {reason}" if reason else "")
        self._notices.warn("move", {"host": self._host, "server": move.server, "sends_mb": move.sends // MIB, "frees_mb": move.frees // MIB,
                                    "priority": move.priority, "outcome": outcome, "reason": reason})

    def _ask(self, move):
        if self._mode == "dry-run":
            return "dry run", ""
        try:
            self._api.live_migrate(move.server)
        except MoveRefused as refusal:
            return "refused", str(refusal)
        return "accepted", ""
