# SPDX-License-Identifier: Apache-2.0
"""The program behind tests/minicloud-ctl."""

import json
import os
import signal
import sys
import time

from testbed.errors import TestbedError
from testbed.interrupts import Interrupted, signals_as_exceptions

from .cloud import Cloud
from .configuration import Options
from .errors import CloudError
from .host import enter, service_of
from .options import parse_arguments
from .state import State

_SIGNALS = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP, "thaw": signal.SIGCONT}


def main():
    """The exit code: 0, 1 where something failed, 128 and more after a signal."""
    options = parse_arguments()
    began = time.monotonic()

    def say(line):
        print(f"[{time.monotonic() - began:6.1f} s] {line}", file=sys.stderr if options.json else sys.stdout, flush=True)

    cloud = Cloud(State(options.state), say)
    try:
        with signals_as_exceptions():
            result = _COMMANDS[options.command](cloud, options)
    except Interrupted as interrupted:
        return interrupted.exit_code
    except TestbedError as error:
        print(f"minicloud-ctl: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps({"seconds": round(time.monotonic() - began, 1), **result}))
    return 0


def _up(cloud, options):
    cloud.up(Options(driver=options.driver, reserved_mb=options.reserved_mb, thermocline=tuple(options.set)))
    return {"state": str(cloud.state.root), "services": cloud.status()}


def _add_host(cloud, options):
    cloud.add_host(options.name)
    return {"services": cloud.status()}


def _remove_host(cloud, options):
    cloud.remove_host(options.name)
    return {"services": cloud.status()}


def _down(cloud, options):
    cloud.down(options.remove)
    return {"state": str(cloud.state.root)}


def _status(cloud, options):
    cloud.state.read()
    status = cloud.status()
    if not options.json:
        for name, pid in status.items():
            print(f"{name:16} {pid or 'DEAD'}")
    return {"services": status}


def _servers(cloud, options):
    found = [{"id": server["id"], "name": server["name"], "status": server["status"], "fault": server.get("fault", {}).get("message", "")}
             for server in cloud.servers.list()]
    if not options.json:
        for server in found:
            print(f"{server['id']}  {server['name']:20} {server['status']:10} {server['fault']}")
    return {"servers": found}


def _service(cloud, options):
    if options.action in _SIGNALS:
        cloud.processes.signal(options.name, _SIGNALS[options.action])
    elif options.action == "stop":
        cloud.processes.stop(options.name)
    elif options.action == "start":
        cloud.services.start(options.name)
    else:
        cloud.restart(options.name)
    return {"services": cloud.status()}


def _run(cloud, options):
    if not options.words or not cloud.processes.pid(service_of("host", options.host)):
        raise CloudError("give a command, and bring the cloud up first: tests/minicloud-ctl up")
    command = enter(cloud.processes, *options.words, host=options.host)
    os.execvp(command[0], command)


_COMMANDS = {"up": _up, "down": _down, "add-host": _add_host, "remove-host": _remove_host, "status": _status, "servers": _servers,
             "service": _service, "run": _run}

if __name__ == "__main__":
    sys.exit(main())
