# SPDX-License-Identifier: Apache-2.0
"""Every method and property that thermoclined shows on the bus, with arguments of its type at the edges of what there is,
of other types, and too few or too many: an answer to each, no crash, no leak, and a guest whose memory is right.

What is called is found by introspection, so that nothing new is left out. THERMOCLINE_BUS_FUZZ=20000 is the long form, and
THERMOCLINE_BUS_FUZZ_SEED another order. THERMOCLINE_DFUZZER=/path/to/dfuzzer adds a test with that program, which Debian 12
does not have."""

import os
import random
import subprocess

from gi.repository import Gio, GLib

from testbed.process_memory import descriptors, private_bytes
from testbed.sizes import MIB
from testbed.thermocline_client import ROOT_PATH, ThermoclineError

CALLS = int(os.environ.get("THERMOCLINE_BUS_FUZZ", "1200"))
SEED = int(os.environ.get("THERMOCLINE_BUS_FUZZ_SEED", "1"))
DFUZZER = os.environ.get("THERMOCLINE_DFUZZER")
AT_ONCE = 8
PROPERTIES = "org.freedesktop.DBus.Properties"
UINT64 = (0, 1, 2, 4095, 16 * MIB - 1, 16 * MIB, 96 * MIB, 200 * MIB, 256 * MIB, (1 << 31) - 1, 1 << 32, (1 << 63) - 1,
          1 << 63, (1 << 64) - 1)
VALUES = {
    "b": (True, False), "y": (0, 255), "n": (-(1 << 15), (1 << 15) - 1), "q": (0, 65535),
    "i": (-(1 << 31), -1, 0, (1 << 31) - 1), "u": (0, 1, 7, 100, 1000, 1001, 65536, (1 << 31), (1 << 32) - 1),
    "x": (-(1 << 63), -1, 0, (1 << 63) - 1), "t": UINT64,
    "d": (0.0, -0.0, 5e-324, 1e-4, 0.005, 0.5, 0.51, -1.0, 1e308, float("inf"), float("-inf"), float("nan")),
    "s": ("", " ", "raw", "minute", "off", "50%", "1GiB", "-1", "101%", "99999999999999999999G", "%s%n%x", "../../etc/passwd",
          "\u202e\U0001f525", "\x01\x7f", "'; DROP TABLE decision; --", "a" * 65536, "4fd1be53-0000-4000-8000-000000000000"),
    "o": ("/", "/org/thermocline1", "/a" * 1000), "g": ("", "s", "a{sv}" * 20),
}
# What an answer may be. Anything else is an error that nobody thought of.
EXPECTED = ("InvalidArgument", "InvalidLimit", "NoSuchDomain", "NotAttached", "AlreadyAttached", "NotSupported", "Busy",
            "OutOfMemory", "DomainNotRunning", "HypervisorUnavailable")
EXPECTED_OF_THE_BUS = ("InvalidArgs", "UnknownMethod", "UnknownProperty", "UnknownInterface", "UnknownObject",
                       "PropertyReadOnly", "InvalidSignature", "AccessDenied", "Failed")


class Fuzzer:
    def __init__(self, client, paths):
        self._client = client
        self._random = random.Random(SEED)
        self._methods = []
        self._properties = []
        for path in paths:
            (xml,) = client.call(path, "org.freedesktop.DBus.Introspectable", "Introspect")
            for interface in Gio.DBusNodeInfo.new_for_xml(xml).interfaces:
                if not interface.name.startswith("org.thermocline1."):
                    continue
                self._methods += [(path, interface.name, method.name, [arg.signature for arg in method.in_args])
                                  for method in interface.methods]
                self._properties += [(path, interface.name, one.name, one.signature) for one in interface.properties]
        assert len(self._methods) > 15 and len(self._properties) > 40
        self.called = set()
        self.answers = set()

    def _value(self, signature):
        if signature[0] == "a":
            count = self._random.choice((0, 1, 100))
            return GLib.Variant(signature, [VALUES[signature[1]][0]] * count)
        choice = self._random.choice(VALUES[signature])
        if signature == "t" and self._random.random() < 0.2:
            choice = self._random.getrandbits(64)
        return GLib.Variant(signature, choice)

    def _any(self):
        return self._value(self._random.choice((*VALUES, "as", "at")))

    def _arguments(self, signatures):
        values = [self._value(one) for one in signatures]
        disorder = self._random.random()
        if disorder < 0.05 and values:
            values.pop()
        elif disorder < 0.1:
            values.append(self._any())
        elif disorder < 0.2 and values:
            values[self._random.randrange(len(values))] = self._any()
        return GLib.Variant.new_tuple(*values) if values else None

    def _question(self):
        kind = self._random.random()
        if kind < 0.7:
            path, interface, method, signatures = self._random.choice(self._methods)
            self.called.add(method)
            return path, interface, method, self._arguments(signatures)
        path, interface, name, signature = self._random.choice(self._properties)
        if kind < 0.85:
            return path, PROPERTIES, "Get", GLib.Variant("(ss)", (interface, name))
        value = self._value(signature) if signature in VALUES and self._random.random() < 0.5 else self._any()
        return path, PROPERTIES, "Set", GLib.Variant("(ssv)", (interface, name, value))

    def run(self, calls):
        under_way = []
        for number in range(calls):
            question = self._question()
            under_way.append((question, self._client.start_call(*question, seconds=120.0)))
            if len(under_way) == AT_ONCE or number == calls - 1:
                for one in under_way:
                    self._judge(*one)
                under_way.clear()

    def _judge(self, question, call):
        try:
            call.result()
        except ThermoclineError as error:
            name = error.name.removeprefix("org.freedesktop.DBus.Error.")
            self.answers.add(name)
            asked = f"{question[2]}{str(question[3])[:200]}"
            assert error.message, f"{asked}: {error.name} without a word"
            if name == error.name:
                assert name in EXPECTED, f"{asked}: {error}"
            else:
                assert name in EXPECTED_OF_THE_BUS, f"{asked}: {error}"
        else:
            self.answers.add("ok")


def test_whatever_is_asked_is_answered(thermocline, guest):
    guest.fill(96 * MIB, seed=191)
    domain = thermocline.domain(guest)
    domain.attach()
    daemon = thermocline.daemon.process.pid
    fuzzer = Fuzzer(thermocline.client, (ROOT_PATH, domain.path))
    fuzzer.run(CALLS // 2)
    half, files = private_bytes(daemon), descriptors(daemon)
    fuzzer.run(CALLS - CALLS // 2)
    print(f"called {sorted(fuzzer.called)}; answers {sorted(fuzzer.answers)}; {half} and {private_bytes(daemon)} bytes")
    assert {"ok", "InvalidLimit", "InvalidArgs"} <= fuzzer.answers
    assert {"Attach", "Detach", "SetLimit", "SetProactive", "SetBudget", "GetHistory"} <= fuzzer.called
    assert private_bytes(daemon) < half + 8 * MIB, "it leaks"
    assert descriptors(daemon) <= files + 4
    assert thermocline.daemon.process.running and thermocline.daemon.process.pid == daemon
    guest.verify()
    domain.wait_for("no step to be under way", lambda now: now["State"] in ("attached", "detached"))


if DFUZZER:
    def test_dfuzzer_finds_nothing(thermocline, guest):
        guest.fill(96 * MIB, seed=192)
        thermocline.attached(guest)
        daemon = thermocline.daemon.process.pid
        files = descriptors(daemon)
        done = subprocess.run([DFUZZER, "--bus=org.thermocline1", "--no-suppressions", "--verbose", "--min-iterations=500"],
                              capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
                              env={**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": thermocline.daemon.bus_address})
        print(done.stdout[-20000:], done.stderr[-2000:], f"{private_bytes(daemon)} bytes")
        assert done.returncode == 0
        assert thermocline.daemon.process.running and thermocline.daemon.process.pid == daemon
        assert descriptors(daemon) <= files + 4
        guest.verify()
