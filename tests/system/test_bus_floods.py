# SPDX-License-Identifier: Apache-2.0
"""D-Bus clients that ask all the time, or never read what they asked for: others are served, and thermoclined's memory is
bounded."""

import contextlib
import os
import socket

import pytest
from gi.repository import Gio, GLib

from testbed.deadline import Deadline, wait_until
from testbed.process_memory import descriptors, private_bytes
from testbed.sizes import MIB
from testbed.thermocline_client import BUS_NAME, DOMAIN, MANAGER, ROOT_PATH, Client, ThermoclineError

CLIENTS = 16
CALLS = 250
PROPERTIES = "org.freedesktop.DBus.Properties"


def _questions(path):
    return [
        (ROOT_PATH, MANAGER, "ListDomains", None), (ROOT_PATH, MANAGER, "Plan", GLib.Variant("(st)", ("50%", 0))),
        (ROOT_PATH, MANAGER, "LookupByName", GLib.Variant("(s)", ("no-such-vm",))),
        (ROOT_PATH, MANAGER, "NoSuchMethod", None), (path, PROPERTIES, "GetAll", GLib.Variant("(s)", (DOMAIN,))),
        (path, DOMAIN, "SetLimit", GLib.Variant("(t)", (200 * MIB,))), (path, DOMAIN, "SetLimit", GLib.Variant("(t)", (1,))),
        (path, DOMAIN, "GetHistory", GLib.Variant("(tts)", (0, 0, "raw"))),
        (path, DOMAIN, "GetHeat", GLib.Variant("(u)", (64,))), (path, DOMAIN, "SetLimit", GLib.Variant("(s)", ("x",)))]


def _outcome(call):
    try:
        call.result()
    except ThermoclineError as error:
        return error.name
    return "ok"


def test_many_clients_that_ask_all_the_time(thermocline, guest):
    guest.fill(64 * MIB, seed=181)
    domain = thermocline.attached(guest, limit=200 * MIB)
    daemon = thermocline.daemon.process.pid
    questions = _questions(domain.path)
    before = descriptors(daemon)
    taken = []
    for _ in range(2):
        outcomes = set()
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(contextlib.closing(Client(thermocline.bus.address))) for _ in range(CLIENTS)]
            calls = [client.start_call(*questions[(i + n) % len(questions)], seconds=120.0)
                     for n in range(CALLS) for i, client in enumerate(clients)]
            for call in calls:
                outcomes.add(_outcome(call))
        taken.append(private_bytes(daemon))
        assert "ok" in outcomes and "InvalidLimit" in outcomes and "NoSuchDomain" in outcomes
        assert not any(name.endswith(("NoReply", "Timeout", "Disconnected")) for name in outcomes), outcomes
    assert taken[1] < taken[0] + 8 * MIB and taken[1] < 64 * MIB
    wait_until("its descriptors are as before", lambda: descriptors(daemon) <= before)
    assert domain.figures()["LimitBytes"] == 200 * MIB
    guest.verify()


class Deaf:
    """A client that speaks D-Bus and does not read after the bus has let it in."""

    def __init__(self, address):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(address.split("path=")[1].split(",")[0])
        self._socket.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\n")
        assert self._socket.recv(4096).startswith(b"OK ")
        self._socket.sendall(b"BEGIN\r\n")
        self._serial = 0
        self._send("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello", None)
        self._socket.setblocking(False)

    def _send(self, bus_name, path, interface, method, arguments):
        message = Gio.DBusMessage.new_method_call(bus_name, path, interface, method)
        if arguments is not None:
            message.set_body(arguments)
        self._serial += 1
        message.set_serial(self._serial)
        self._socket.sendall(bytes(message.to_blob(Gio.DBusCapabilityFlags.NONE)))

    def ask(self, *question):
        """False where the bus takes no more of it, or has cut it off."""
        try:
            self._send(BUS_NAME, *question)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            return False
        return True

    def close(self):
        self._socket.close()


@pytest.mark.parametrize("signals", [False, True], ids=["answers", "signals"])
def test_a_client_that_never_reads(thermocline, guest, signals):
    domain = thermocline.domain(guest)
    domain.attach()
    daemon = thermocline.daemon.process.pid
    before = private_bytes(daemon)
    with contextlib.closing(Deaf(thermocline.bus.address)) as deaf:
        if signals:
            deaf._send("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch",
                       GLib.Variant("(s)", (f"type='signal',sender='{BUS_NAME}'",)))
        asked = 0
        deadline = Deadline(10.0)
        while asked < 20_000 and not deadline.over:
            # The last call that it was refused in parts would be nonsense: it says nothing more.
            if not deaf.ask(domain.path, PROPERTIES, "GetAll", GLib.Variant("(s)", (DOMAIN,))):
                break
            asked += 1
        assert asked > 100
        for limit in (200 * MIB, 220 * MIB, 240 * MIB):
            domain.set_limit(limit)
            assert domain.figures()["LimitBytes"] == limit
    assert private_bytes(daemon) < before + 64 * MIB
    assert thermocline.daemon.process.running
    assert domain.path in thermocline.client.manager("ListDomains")[0]
