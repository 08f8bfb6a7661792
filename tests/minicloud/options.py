# SPDX-License-Identifier: Apache-2.0
"""The command line of tests/minicloud-ctl."""

import argparse
import re
from pathlib import Path

from .configuration import DRIVERS
from .host import FIRST
from .services import BACKING, OPENSTACK
from .state import DEFAULT


def parse_arguments():
    """Exits with 2 and a message where it is wrong."""
    parser = argparse.ArgumentParser(
        prog="tests/minicloud-ctl", description="A real OpenStack on this machine, from Debian's packages, with a libvirtd of its own. All it "
        "writes is in its folder; it listens on 127.0.0.1 only. Needs root, and for `up` the packages of "
        "packaging/install-dependencies --kind cloud.")
    parser.add_argument("--state", type=Path, default=DEFAULT, metavar="DIR", help=f"the cloud's folder (default: {DEFAULT})")
    parser.add_argument("--json", action="store_true", help="results as JSON on stdout; progress goes to stderr")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="bring it up: 30 s from nothing, 20 s where it was before")
    up.add_argument("--driver", choices=DRIVERS, default="stock", help="Nova's libvirt driver, or ours on top of it (default: stock)")
    up.add_argument("--reserved-mb", type=int, default=512, metavar="MIB", help="memory that Nova does not give to servers (default: 512)")
    up.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="an option of nova.conf's section [thermocline]")
    down = commands.add_parser("down", help="power its guests off and end its services")
    down.add_argument("--remove", action="store_true", help="remove its folder, too")
    for name, does in (("add-host", "add a compute host, until the cloud goes down"), ("remove-host", "take an added host away")):
        host = commands.add_parser(name, help=does)
        host.add_argument("name", type=_host, metavar="HOST")
    commands.add_parser("status", help="which services run")
    commands.add_parser("servers", help="Nova's servers")
    service = commands.add_parser("service", help="do something to one service, to see what its users make of it")
    service.add_argument("action", choices=("start", "stop", "restart", "kill", "freeze", "thaw"))
    service.add_argument("name", metavar="NAME", help=f"{', '.join(BACKING + OPENSTACK)}; libvirtd@HOST is that of an added host")
    run = commands.add_parser("run", help="run a command where qemu:///system is the cloud's libvirtd")
    run.add_argument("--host", default=FIRST, metavar="HOST", help="an added host's")
    run.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")
    return parser.parse_args()


def _host(text):
    if not re.fullmatch("[a-z][a-z0-9-]{0,30}", text) or text == FIRST:
        raise argparse.ArgumentTypeError(f"{text!r}: a host is named by up to 31 of a-z, 0-9 and -, beginning with a letter; {FIRST} is there already")
    return text
