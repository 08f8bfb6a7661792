# SPDX-License-Identifier: Apache-2.0
"""Overcommits a running VM, end to end, and shows it. ./demo --help says how."""

import contextlib
import json
import sys

import libvirt

from testbed.bus import SystemBus, system_bus_is_free
from testbed.errors import TestbedError
from testbed.interrupts import Interrupted, shield, signals_as_exceptions
from testbed.sizes import format_size
from testbed.testbed import Testbed
from testbed.thermocline_daemon import ThermoclineDaemon

from .options import parse_arguments
from .report import as_json, lines
from .scenario import Scenario
from .terminal import Terminal


def _run(options, terminal):
    with contextlib.ExitStack() as stack:
        stack.enter_context(signals_as_exceptions())
        try:
            return _run_in(stack, options, terminal)
        finally:
            shield()


def _run_in(stack, options, terminal):
    testbed = stack.enter_context(Testbed())
    started = testbed.services.started
    terminal.step("libvirt: " + (f"started {', '.join(started)}, for the time of the demo" if started else
                                 "runs already, used as it is"))
    bus, where = _choose_bus(testbed)
    stack.enter_context(bus)
    daemon = ThermoclineDaemon(bus.address, testbed.run_dir / "daemon")
    stack.callback(daemon.close)
    terminal.step(f"thermoclined on {where}")
    client = daemon.start()
    stack.callback(client.close)
    how = "KVM" if testbed.accelerator == "kvm" else "TCG, because Linux does not boot under KVM here"
    terminal.step(f"booting a Linux guest: {format_size(options.memory)}, QEMU's sandbox on, {how}")
    guest = stack.enter_context(testbed.guest("demo", options.memory))
    guest.start()
    try:
        measured = Scenario(terminal, guest, client.wait_for_domain(guest.uuid), options.limit).run()
    except TestbedError as error:
        raise TestbedError(f"{error}\nthermoclined says:\n{daemon.log_tail()}") from None
    return measured, testbed.accelerator


def _choose_bus(testbed):
    if system_bus_is_free():
        return SystemBus(), "the system bus"
    return testbed.private_bus(), "a private bus (the system bus does not let us own org.thermocline1)"


def main():
    options = parse_arguments()
    terminal = Terminal()
    try:
        measured, accelerator = _run(options, terminal)
    except Interrupted as interrupted:
        terminal.say("interrupted; everything is cleaned up")
        return interrupted.exit_code
    except (TestbedError, libvirt.libvirtError) as error:
        terminal.say(terminal.bad(f"failed: {error}"))
        if options.json:
            print(json.dumps({"guest_ok": False, "error": str(error)}), flush=True)
        return 1
    terminal.say()
    for line in lines(measured, terminal):
        terminal.say(line)
    if options.json:
        print(json.dumps(as_json(measured, accelerator)), flush=True)
    return 0 if measured.guest_ok else 1


if __name__ == "__main__":
    sys.exit(main())
