# SPDX-License-Identifier: Apache-2.0
"""Command line of tests/kill-campaign."""

import argparse


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        prog="tests/kill-campaign",
        description="Kills managers (and daemons) at named points and at random times, over a subject that verifies its "
        "memory all the time. The last line is a JSON object with kills, bytes_wrong, pause_us_median and pause_us_worst.",
        epilog="Example: tests/kill-campaign --kills 1000 --subject process --json",
    )
    parser.add_argument("--kills", type=int, default=1000, metavar="N", help="how many (default: %(default)s)")
    parser.add_argument("--subject", choices=("process", "guest"), default="process",
                        help="a process that looks like QEMU, whose manager is killed at named points and at random "
                        "times, or a Linux guest, with kills of the manager, of thermoclined, and of both (default: process)")
    parser.add_argument("--seed", type=int, default=1, help="of all that is random (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="no progress, only the last line")
    options = parser.parse_args(arguments)
    if options.kills < 1:
        parser.error("--kills takes 1 or more")
    return options


if __name__ == "__main__":
    parse()
