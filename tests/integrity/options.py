# SPDX-License-Identifier: Apache-2.0
"""The campaign's command line. Imports nothing that has to be installed first."""

import argparse

from testbed.sizes import MIB, parse_size

from .plan import SHARES


def _size(text):
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _share(text):
    if not text.isdigit() or not 10 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of percent from 10 to 100")
    return int(text)


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="tests/integrity-campaign",
        description="Runs stress-ng --vm --verify and memtester in a Linux guest under limits, with proactive reclaim at full "
        "speed, and expects not one wrong bit. Needs root; ends and removes all that it starts. Hours without KVM.",
        epilog="Exit code 0: no error. 1: an error was found, or a round could not be run. 2: wrong usage.")
    parser.add_argument("--memory", type=_size, default=512 * MIB, metavar="SIZE", help="the guest's RAM (default 512MiB)")
    parser.add_argument("--shares", type=_share, nargs="+", default=list(SHARES), metavar="PERCENT",
                        help="limits, in percent of it (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="how often to run all of it (default 1)")
    parser.add_argument("--short", action="store_true", help="what ./test runs: minutes")
    parser.add_argument("--json", action="store_true", help="one JSON object per round on stdout, progress on stderr")
    options = parser.parse_args()
    if options.memory < 256 * MIB:
        parser.error("--memory: the guest needs at least 256M")
    if options.memory * min(options.shares) // 100 < 56 * MIB:
        parser.error("--shares: the lowest limit has to be 56M or more")
    if options.rounds < 1:
        parser.error("--rounds: at least 1")
    return options


if __name__ == "__main__":
    parse_arguments()
