# SPDX-License-Identifier: Apache-2.0
"""Runs one round in a guest that is attached, and says what came of it."""

from dataclasses import dataclass

from gi.repository import GLib

from testbed.memory_testers import Verdict, run_tester

FULL_SPEED = 0.5  # the largest stall that the proactive policy takes
_PROOF = ("EvictedPages", "ColdFaults")  # without these nothing was put to the test
_COUNTERS = ("EvictedPages", "ColdFaults", "StagedFaults", "Faults")


@dataclass(frozen=True)
class Result:
    """The tester's verdict, and how much the manager did meanwhile: pages were evicted and came back."""

    verdict: Verdict
    counted: dict
    figures: dict  # at the end

    @property
    def problems(self):
        """For a person; empty where no byte was wrong."""
        found = list(self.verdict.errors)
        if not self.verdict.clean and not found:
            found.append(f"exit code {self.verdict.exit_code}, work {self.verdict.work}: {self.verdict.output}")
        if self.figures["State"] != "attached":
            found.append(f"the domain is {self.figures['State']}: {self.figures['StateNote']}")
        return found


def run_round(guest, domain, this_round):
    """REQUIRES: a guest with tools, attached, with nothing filled. Leaves limit and policy as the round has them."""
    guest.fill(this_round.own_bytes, seed=this_round.share)
    limit = guest.spec.memory_bytes * this_round.share // 100
    domain.start("SetProactive", GLib.Variant("(dt)", (FULL_SPEED, 0))).result()
    domain.set_limit(limit)
    before = domain.wait_for("limit and policy", lambda figures: (figures["LimitBytes"], figures["ProactiveMaxStall"])
                             == (limit, FULL_SPEED))
    verdict = run_tester(guest, this_round.tester, this_round.seconds)
    guest.verify()
    guest.reset()
    figures = domain.wait_for("the figures of after the tester", lambda figures: all(
        figures[name] > before[name] for name in _PROOF), 30.0)
    return Result(verdict, {name: figures[name] - before[name] for name in _COUNTERS}, figures)
