# SPDX-License-Identifier: Apache-2.0
"""The daemon's surroundings fail: each time it says what is wrong and what to do, and breaks nothing."""

import contextlib
import sqlite3

import pytest
from gi.repository import GLib

from testbed.hidden_devices import without_devices
from testbed.sizes import MIB
from testbed.thermocline_daemon import ThermoclineDaemon
from testbed.thermoctl import Thermoctl

from .refusals import FAILURE, UNREACHABLE, refused, refused_by_cli
from .thermocline import Thermocline

DAEMON_BUS, DAEMON_ALREADY_RUNS, DAEMON_DATABASE = 3, 4, 5


@pytest.fixture
def stopped(testbed):
    """A bus and a daemon that has not been started yet."""
    with Thermocline(testbed, start=False) as thermocline:
        yield thermocline


def _database(daemon):
    return daemon.state_dir / "thermocline.db"


def test_database_is_no_database(stopped):
    stopped.daemon.state_dir.mkdir(mode=0o700)
    _database(stopped.daemon).write_bytes(b"this is not SQLite" * 1000)
    code, said = stopped.daemon.run_to_end()
    assert code == DAEMON_DATABASE and str(_database(stopped.daemon)) in said
    assert _database(stopped.daemon).read_bytes() == b"this is not SQLite" * 1000


def test_database_is_damaged(stopped):
    stopped.start()
    stopped.daemon.end()
    content = bytearray(_database(stopped.daemon).read_bytes())
    for at in range(4096, len(content), 4096):  # every page but the first, which holds the magic
        content[at:at + 200] = b"\xa5" * 200
    _database(stopped.daemon).write_bytes(content)
    code, said = stopped.daemon.run_to_end()
    assert code == DAEMON_DATABASE and str(_database(stopped.daemon)) in said
    assert _database(stopped.daemon).read_bytes() == bytes(content)


def test_database_is_read_only(stopped):
    stopped.start()
    stopped.daemon.end()
    _database(stopped.daemon).chmod(0o400)
    code, said = stopped.daemon.run_to_end()
    assert code == DAEMON_DATABASE and "read-only" in said.lower()


def test_database_is_of_a_newer_version(stopped):
    stopped.start()
    stopped.daemon.end()
    with contextlib.closing(sqlite3.connect(_database(stopped.daemon))) as database:
        database.execute("PRAGMA user_version = 9999")
    code, said = stopped.daemon.run_to_end()
    assert code == DAEMON_DATABASE and "9999" in said


def test_bus_name_is_taken(testbed, thermocline, guest):
    domain = thermocline.attached(guest)
    second = ThermoclineDaemon(thermocline.bus.address, testbed.run_dir / "second-of-the-name")
    code, said = second.run_to_end()
    assert code == DAEMON_ALREADY_RUNS and "org.thermocline1" in said
    assert domain.figures()["State"] == "attached"


def test_runtime_directory_is_taken(testbed, thermocline):
    with testbed.private_bus("bus-of-second") as bus:
        second = ThermoclineDaemon(bus.address, testbed.run_dir / "second-of-the-directory")
        second.runtime_dir = thermocline.daemon.runtime_dir
        code, said = second.run_to_end()
    assert code == DAEMON_ALREADY_RUNS and str(thermocline.daemon.runtime_dir) in said


def test_no_bus(testbed):
    daemon = ThermoclineDaemon("unix:path=/nonexistent/bus", testbed.run_dir / "no-bus")
    code, said = daemon.run_to_end()
    assert code == DAEMON_BUS and "/nonexistent/bus" in said


def test_no_daemon_for_the_command_line(stopped):
    outcome = stopped.ctl("list")
    assert outcome.code == UNREACHABLE and "thermoclined" in outcome.err
    assert Thermoctl("unix:path=/nonexistent/bus")("list").code == UNREACHABLE


def test_libvirtd_is_away_from_the_start(testbed):
    with Thermocline(testbed, start=False) as thermocline:
        thermocline.daemon.connect_uri = "qemu+unix:///system?socket=/nonexistent/libvirt-sock"
        thermocline.start(wait_for_libvirt=False)
        assert thermocline.client.manager_property("HypervisorState") == "disconnected"
        assert thermocline.client.manager_property("HypervisorDetail")
        message = refused("HypervisorUnavailable", thermocline.client.manager, "LookupByName",
                          GLib.Variant("(s)", ("any",)))
        assert "libvirtd" in message
        refused_by_cli(thermocline, FAILURE, "attach", "any")


def test_userfaultfd_device_is_missing(testbed, guest):
    with Thermocline(testbed, start=False) as thermocline:
        thermocline.daemon.prefix = without_devices(["userfaultfd"], thermocline.daemon.directory / "dev")
        thermocline.start()
        domain = thermocline.domain(guest)
        assert "/dev/userfaultfd" in refused("NotSupported", domain.attach)
        assert domain.figures()["State"] == "detached"
        findings = thermocline.client.manager("Doctor")[0]
        wrong = [finding for finding in findings if not finding[1]]
        assert any("userfaultfd" in detail for finding in wrong for detail in finding if isinstance(detail, str))
        assert all(fix for _name, _ok, _detail, fix in wrong)
        assert "userfaultfd" in thermocline.ctl("doctor").out
    guest.fill(16 * MIB)
    guest.verify()
