# SPDX-License-Identifier: Apache-2.0
"""The demo's command line. Imports nothing that has to be installed first: --help works on a bare machine."""

import argparse

from testbed.sizes import MIB, parse_size


def _size(text):
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="./demo", description="Boots a Linux guest under libvirt, attaches Thermocline to it while it runs, takes half of its "
        "memory away, and proves in the guest that not one byte is wrong. Needs root; leaves nothing behind.")
    parser.add_argument("--memory", type=_size, default=1024 * MIB, metavar="SIZE", help="the guest's RAM (default 1GiB)")
    parser.add_argument("--limit", type=_size, metavar="SIZE", help="the hard limit (default: half of the RAM)")
    parser.add_argument("--json", action="store_true", help="end with one JSON object on the last line")
    options = parser.parse_args()
    options.limit = options.limit or options.memory // 2
    if options.memory < 192 * MIB:
        parser.error("--memory: the guest needs at least 192M")
    if not options.memory // 16 <= options.limit <= options.memory:
        parser.error("--limit: from a sixteenth of the RAM to all of it")
    return options


if __name__ == "__main__":
    parse_arguments()
