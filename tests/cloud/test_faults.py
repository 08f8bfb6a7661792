# SPDX-License-Identifier: Apache-2.0
"""What breaks around the driver while servers boot and run: they boot and run on, as with stock Nova."""

import contextlib
import signal

from testbed.deadline import wait_until
from testbed.sizes import MIB


def _limited(cloud):
    return cloud.flavor("faults", 128, limit="96MiB")


@contextlib.contextmanager
def _stopped(process):
    process.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.signal(signal.SIGCONT)


def test_the_daemon_is_killed_while_a_server_boots(cloud):
    server = cloud.servers.create("killed", _limited(cloud))
    cloud.client.wait_for_domain(server, 60)
    cloud.daemon.kill()
    cloud.servers.wait_for(server, "ACTIVE")
    cloud.booted(server).close()
    assert cloud.servers.diagnostics(server, "compute 2.1")["memory"] == 128 * 1024


def test_without_a_daemon_placement_hears_the_hosts_own_memory_and_no_traits(cloud):
    server = cloud.servers.create("before", _limited(cloud))
    cloud.servers.wait_for(server, "ACTIVE")
    host = cloud.servers.memory_inventory()["max_unit"]
    cloud.wait_for_capacity("more than the host's", lambda _mib: cloud.servers.memory_inventory()["total"] > host)
    cloud.daemon.kill()
    cloud.wait_for_capacity("the host's own", lambda _mib: cloud.servers.memory_inventory()["total"] == host)
    assert not [trait for trait in cloud.servers.traits() if "THERMOCLINE" in trait]
    said = cloud.log().count("Working as Nova's own libvirt driver")
    cloud.servers.delete(server)
    another = cloud.servers.create("after", _limited(cloud))
    cloud.servers.wait_for(another, "ACTIVE")
    assert cloud.log().count("Working as Nova's own libvirt driver") == said


def test_the_daemon_hangs_while_a_server_boots(cloud):
    flavor = _limited(cloud)
    with _stopped(cloud.daemon.process):
        server = cloud.servers.create("hangs", flavor)
        cloud.servers.wait_for(server, "ACTIVE")
        assert "thermocline_used" not in cloud.servers.diagnostics(server, "compute 2.1")
    cloud.wait_for_figures(server, "attached", lambda figures: figures["State"] == "attached")


def test_the_bus_hangs_while_a_server_boots(cloud):
    flavor = _limited(cloud)
    with _stopped(cloud.bus.process):
        server = cloud.servers.create("no-bus", flavor)
        cloud.servers.wait_for(server, "ACTIVE")
        cloud.booted(server).close()


def test_nova_is_restarted_while_a_server_is_overcommitted(cloud):
    server = cloud.servers.create("restart", _limited(cloud))
    cloud.servers.wait_for(server, "ACTIVE")
    cloud.wait_for_figures(server, "the limit", lambda figures: figures["LimitBytes"] == 96 * MIB)
    cloud.cloud.restart("nova-compute")
    assert cloud.servers.show(server)["status"] == "ACTIVE"
    assert cloud.figures(server)["LimitBytes"] == 96 * MIB
    assert cloud.figures(server)["State"] == "attached"


def test_a_conflict_in_placement_is_overcome(cloud):
    """Somebody else changes the provider: Nova's next report has an old generation, is answered 409, and made again."""
    server = cloud.servers.create("conflict", _limited(cloud))
    cloud.servers.wait_for(server, "ACTIVE")
    host = cloud.servers.memory_inventory()["max_unit"]
    cloud.wait_for_capacity("more than the host's", lambda _mib: cloud.servers.memory_inventory()["total"] > host)
    cloud.servers.change_memory_inventory(total=100_000)
    cloud.servers.delete(server)  # so that Nova has something to report
    wait_until("the inventory is the host's again", lambda: cloud.servers.memory_inventory()["total"] == host, 60)
