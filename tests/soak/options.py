# SPDX-License-Identifier: Apache-2.0
"""Command line of bench/soak. Imports nothing that has to be installed first."""

import argparse


def _seconds(text):
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "m")
    if not number.isdigit() or int(number) * units[unit] < 30:
        raise argparse.ArgumentTypeError(f"{text} is no length of 30s or more, like 45s, 30m or 8h")
    return int(number) * units[unit]


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        prog="bench/soak",
        description="Two Linux guests that verify and rewrite their memory all the time, with a file tier, while limits, "
        "proactive policies, priorities and the host's budget change every few seconds. What thermoclined and the managers "
        "take of the host's memory has to stay flat: the median of the last quarter of the time is at most 1.25 times that "
        "of the second quarter, and 2 MiB (thermoclined) or 4 MiB (a manager), as are their open files, within 8. Needs "
        "root; ends and removes all that it starts.",
        epilog="Examples: bench/soak; bench/soak 8h --json. Exit code 0: flat, and no byte wrong. 1: not so. 2: wrong usage.")
    parser.add_argument("length", nargs="?", type=_seconds, default=1800, metavar="LENGTH",
                        help="like 45s, 30m (the default) or 8h; minutes where there is no unit")
    parser.add_argument("--seed", type=int, default=1, help="of all that is random (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="no progress, only one object as the last line")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    parse()
