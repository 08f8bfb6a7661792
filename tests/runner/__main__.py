# SPDX-License-Identifier: Apache-2.0
"""Runs the suites and sums them up."""

import os
import sys

from .options import parse_arguments
from .results import Tally
from .suites import prepare_results, run_pytest, run_unit


def main():
    options = parse_arguments()
    skip_fails = bool(os.environ.get("CI"))
    prepare_results()
    total = Tally()
    if options.unit:
        total += run_unit(options.expression, skip_fails)
        total += run_pytest("style", ["style", "testbed", "runner", "demo", "minicloud"], options.expression, skip_fails)
    if options.system:
        total += run_pytest("system", ["system"], options.expression, skip_fails)
    if options.nova:
        total += run_pytest("nova-driver", ["../nova-driver/tests"], options.expression, skip_fails)
        total += run_pytest("cloud", ["cloud" if options.cloud else "cloud/test_first_server.py"], options.expression, skip_fails)
    for name, text in total.failures:
        print(f"\nFAILED {name}\n{text.rstrip()}")
    print()
    skipped = f", {total.skipped} skipped" if total.skipped else ""
    print(f"{total.passed} passed, {total.failed} failed{skipped}", flush=True)
    return 0 if total.passed and not total.failed else 1


if __name__ == "__main__":
    sys.exit(main())
