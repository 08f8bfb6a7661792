# SPDX-License-Identifier: Apache-2.0
"""The program behind tests/integrity-campaign."""

import json
import sys
import time

from system.thermocline import Thermocline
from testbed.errors import TestbedError
from testbed.interrupts import Interrupted, shield, signals_as_exceptions
from testbed.testbed import Testbed

from .options import parse_arguments
from .plan import full_plan, short_plan
from .rounds import run_round


def _tell(options, text):
    print(text, file=sys.stderr if options.json else sys.stdout, flush=True)


def _report(options, this_round, result, seconds):
    problems = result.problems
    _tell(options, f"{this_round.name}: {'; '.join(problems) or 'no error'}; work {result.verdict.work}, "
          f"{result.counted['EvictedPages']} pages evicted, {result.counted['ColdFaults']} cold faults, {seconds:.0f} s")
    if options.json:
        print(json.dumps({"round": this_round.name, "tester": this_round.tester.name, "limit_percent": this_round.share,
                          "command": this_round.tester.command(), "ok": not problems, "problems": problems,
                          "work": result.verdict.work, "counted": result.counted, "seconds": round(seconds, 1)}), flush=True)
    return not problems


def _run(options, plan, testbed):
    """True where every round was without an error."""
    clean = True
    with Thermocline(testbed, say=lambda _text: None) as thermocline, testbed.guest("campaign", options.memory, tools=True) as guest:
        guest.start()
        domain = thermocline.domain(guest)
        domain.attach()
        for number, this_round in enumerate(plan, 1):
            _tell(options, f"[{number}/{len(plan)}] {' '.join(this_round.tester.command())}")
            begin = time.monotonic()
            result = run_round(guest, domain, this_round)
            clean &= _report(options, this_round, result, time.monotonic() - begin)
        domain.detach()
    return clean


def main():
    options = parse_arguments()
    plan = (short_plan if options.short else full_plan)(options.memory, options.shares) * options.rounds
    try:
        with signals_as_exceptions(), Testbed() as testbed:
            try:
                clean = _run(options, plan, testbed)
            finally:
                shield()
    except Interrupted as interrupted:
        _tell(options, f"interrupted: {interrupted}")
        return interrupted.exit_code
    except TestbedError as error:
        _tell(options, f"failed: {error}")
        return 1
    _tell(options, f"{len(plan)} rounds: {'no error' if clean else 'ERRORS'}")
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
