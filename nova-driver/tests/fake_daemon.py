# SPDX-License-Identifier: Apache-2.0
"""A thermoclined that is not there: on a real bus, with the real interfaces' members, and with whatever misbehaviour a test
wants. test_fake_daemon.py holds it to dbus/*.xml; tests/cloud is the same driver with the real daemon."""

import threading

from jeepney import DBusAddress, HeaderFields, MessageType, new_error, new_method_return, new_signal
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import open_dbus_connection

NAME = "org.thermocline1"
DOMAIN = "org.thermocline1.Domain"
MIB = 1 << 20
HANG = object()  # what a handler returns for a call that is never answered
# What a domain of 512 MiB looks like under a limit of 200 MiB that is met.
ATTACHED = {
    "State": ("s", "attached"), "MemoryBytes": ("t", 512 * MIB), "ResidentBytes": ("t", 100 * MIB), "StagedBytes": ("t", 10 * MIB),
    "ColdBytes": ("t", 300 * MIB), "StoreBytes": ("t", 80 * MIB), "FrozenBytes": ("t", 0), "MetadataBytes": ("t", 2 * MIB),
    "UsedBytes": ("t", 192 * MIB), "LimitBytes": ("t", 200 * MIB), "LimitMet": ("b", True), "StallRatio": ("d", 0.002),
    "StallNanoseconds": ("t", 7_000_000), "Mechanism": ("s", "move"), "ProactiveMaxStall": ("d", 0.0),
    "MinResidentBytes": ("t", 0), "Managed": ("b", True), "Priority": ("u", 100), "AllotmentBytes": ("t", 0), "Running": ("b", True)}


class Refusal(Exception):
    """What a handler raises for an answer that is an error: its name without the prefix, and its message."""


class FakeDaemon:
    """Context manager; a thread of its own serves. `domains`: {uuid: {property: (signature, value)}}; `behaviour`:
    {method: function(uuid, body) that returns (signature, body) or HANG, or raises Refusal}; `budget`: the property's (signature, value);
    `calls`: (method, uuid, body) so far."""

    def __init__(self, address, domains=None, behaviour=None):
        self.domains = domains if domains is not None else {}
        self.behaviour = behaviour or {}
        self.budget = ("s", "off")
        self.calls = []
        self.called = threading.Condition()
        self._connection = open_dbus_connection(address)
        self._connection.send_and_get_reply(message_bus.RequestName(NAME))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.kill()

    def kill(self):
        """Gone at once, as after kill -9: calls that it owes an answer fail."""
        try:
            self._connection.sock.shutdown(2)
        except OSError:
            return  # it was killed before
        self._thread.join()
        self._connection.close()

    def signal_change(self, uuid, **properties):
        """Changes a domain's properties, {name: (signature, value)}, and says so on the bus."""
        self.domains[uuid].update(properties)
        emitter = DBusAddress(path(uuid), NAME, "org.freedesktop.DBus.Properties")
        self._connection.send(new_signal(emitter, "PropertiesChanged", "sa{sv}as", (DOMAIN, properties, [])))

    def wait_for_call(self, method, seconds=10.0):
        """Until that method has been called; the call."""
        def found():
            return next((call for call in self.calls if call[0] == method), None)
        with self.called:
            assert self.called.wait_for(found, seconds), f"{method} is not called; there were {self.calls}"
            return found()

    def _serve(self):
        try:
            self._serve_until_killed()
        except (OSError, ValueError):
            pass  # kill(), or the bus is gone

    def _serve_until_killed(self):
        while True:
            message = self._connection.receive()
            if message.header.message_type is not MessageType.method_call:
                continue
            answer = self._answer(message)
            if answer is not None:
                self._connection.send(answer)

    def _answer(self, message):
        fields = message.header.fields
        method = fields[HeaderFields.member]
        uuid = fields[HeaderFields.path].rsplit("/", 1)[1].replace("_", "-")
        with self.called:
            self.calls.append((method, uuid, message.body))
            self.called.notify_all()
        try:
            answer = self.behaviour.get(method, getattr(self, f"_{method}", self._done))(uuid, message.body)
        except Refusal as refusal:
            return new_error(message, f"{NAME}.Error.{refusal.args[0]}", "s", (refusal.args[1],))
        return None if answer is HANG else new_method_return(message, *answer)

    @staticmethod
    def _done(_uuid, _body):
        return None, ()

    def _GetManagedObjects(self, _uuid, _body):
        return "a{oa{sa{sv}}}", ({path(uuid): {DOMAIN: properties} for uuid, properties in self.domains.items()},)

    def _GetAll(self, uuid, _body):
        return "a{sv}", (self.domains[uuid],)

    def _Get(self, _uuid, body):
        assert body == ("org.thermocline1.Manager", "Budget")
        return "v", (self.budget,)

    def _LookupByUuid(self, _uuid, body):
        if body[0] not in self.domains:
            raise Refusal("NoSuchDomain", f"libvirt knows no domain {body[0]}")
        return "o", (path(body[0]),)


def path(uuid):
    """The domain's object path."""
    return f"/org/thermocline1/domain/{uuid.replace('-', '_')}"
