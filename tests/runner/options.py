# SPDX-License-Identifier: Apache-2.0
"""The command line of ./test. Imports nothing that has to be installed first."""

import argparse


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="./test", description="Installs what is missing, builds, and runs every test. The last line is the sum: "
        "N passed, N failed. Needs root for the system tests; ends and removes all that it starts. By default all, but of the "
        "tests on a real OpenStack only the first.")
    parser.add_argument("--unit", action="store_true", help="unit tests and style checks only (seconds; no root, no VMs)")
    parser.add_argument("--system", action="store_true", help="system tests only (libvirt, QEMU, real guests)")
    parser.add_argument("--cloud", action="store_true", help="the tests of the Nova driver only, with all of those on a real "
                        "OpenStack")
    parser.add_argument("-k", metavar="EXPR", dest="expression",
                        help="only tests whose name matches (ctest -R and pytest -k)")
    options = parser.parse_args()
    options.nova = options.cloud
    if not (options.unit or options.system or options.cloud):
        options.unit = options.system = options.nova = True
    return options


if __name__ == "__main__":
    parse_arguments()
