# SPDX-License-Identifier: Apache-2.0
"""A private bus for each test, and Nova's configuration without a file."""

import os
import subprocess

# The fake daemon is a thread beside a driver that blocks; the driver under eventlet is what tests/cloud runs.
os.environ["OS_NOVA_DISABLE_EVENTLET_PATCHING"] = "1"

import nova.conf
import pytest
from nova import objects
from thermocline_nova import options

from .fake_daemon import ATTACHED, FakeDaemon

objects.register_all()

UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"


class Bus:
    """address; process: for a test that stops it."""

    def __init__(self, folder):
        self.process = subprocess.Popen(["dbus-daemon", "--session", "--nofork", "--nopidfile", "--nosyslog", "--print-address=1",
                                         f"--address=unix:path={folder}/bus"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)
        self.address = self.process.stdout.readline().strip()
        assert self.address

    def end(self):
        """Also where it was stopped or killed before."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def bus(tmp_path):
    """A message bus of the test's own."""
    bus = Bus(tmp_path)
    yield bus
    bus.end()


@pytest.fixture
def fake(bus):
    """A daemon with one attached domain, UUID."""
    with FakeDaemon(bus.address, {UUID: dict(ATTACHED)}) as fake:
        yield fake


@pytest.fixture
def conf(bus):
    """nova.conf, empty but for the bus; undone after the test."""
    nova.conf.CONF([], project="nova", default_config_files=[])
    options.register(nova.conf.CONF)
    nova.conf.CONF.set_override("bus_address", bus.address, "thermocline")
    nova.conf.CONF.set_override("timeout", 0.5, "thermocline")
    nova.conf.CONF.set_override("attach_timeout", 1.0, "thermocline")
    yield nova.conf.CONF
    nova.conf.CONF.reset()
    nova.conf.CONF.clear_override("bus_address", "thermocline")
    for name in ("timeout", "attach_timeout", "inventory", "headroom_mb", "hysteresis_mb", "safety_margin", "max_ratio", "evict_servers", "evict_interval"):
        nova.conf.CONF.clear_override(name, "thermocline")
