# SPDX-License-Identifier: Apache-2.0
"""Servers that change hosts: what their flavor asks for holds where they arrive, and nothing is left where they were."""

import signal

import pytest

from minicloud.rest import ApiError
from testbed.deadline import wait_until
from testbed.sizes import MIB

_LIMIT = 96 * MIB


@pytest.fixture(scope="module")
def second(_overcommitted):
    with _overcommitted.second_host() as host:
        yield host


@pytest.fixture
def flavor(cloud):
    return cloud.flavor("moves-between-hosts", 256, limit="96MiB", priority="30")


def _wait_until_limited(host, server):
    return host.wait_for_figures(server, "the limit", lambda figures: figures["State"] == "attached" and figures["LimitBytes"] == _LIMIT
                                 and figures["Priority"] == 30)


def _wait_until_on(cloud, server, host):
    # First: where Nova builds it again it is ACTIVE a moment before it is said to be there.
    wait_until(f"the server is on {host.name}", lambda: cloud.servers.show(server)["OS-EXT-SRV-ATTR:host"] == host.name, 120)
    cloud.servers.wait_for(server, "ACTIVE")


def _require_here_alone(server, here, there):
    _wait_until_limited(here, server)
    assert here.metadata(server) == f'<overcommit limit="{_LIMIT}" priority="30"/>'
    assert server not in there.domains()
    there.wait_until_forgotten(server)
    assert not there.daemon.managers()


def test_a_live_migration_takes_along_what_the_flavor_asks_for(cloud, second, flavor):
    server = cloud.servers.create("migrated", flavor, host=cloud.first.name)
    cloud.servers.wait_for(server, "ACTIVE")
    guest = cloud.booted(server)
    guest.request(f"fill {128 * MIB} 7 10", seconds=180)
    cloud.wait_for_figures(server, "what is away", lambda figures: figures["LimitMet"] and figures["ColdBytes"] > 30 * MIB, 90)
    guest.close()
    for there, here in ((second, cloud.first), (cloud.first, second)):  # and back
        cloud.servers.live_migrate(server, there.name)
        _wait_until_on(cloud, server, there)
        _require_here_alone(server, there, here)
        guest = there.console(server)
        assert guest.request("verify", seconds=180)["ok"]
        guest.close()


def test_an_evacuated_server_is_overcommitted_where_it_is_built_again(cloud, second, flavor):
    server = cloud.servers.create("evacuated", flavor, host=second.name)
    cloud.servers.wait_for(server, "ACTIVE")
    _wait_until_limited(second, server)
    compute = f"nova-compute@{second.name}"
    cloud.processes.signal(compute, signal.SIGKILL)
    cloud.cloud.power_off_guests(second.name)
    cloud.servers.force_down(second.name, True)
    cloud.servers.act(server, "evacuate", {"host": cloud.first.name})
    _wait_until_on(cloud, server, cloud.first)
    _wait_until_limited(cloud.first, server)
    # The host comes back, and clears away what it still has of it.
    cloud.cloud.services.start(compute)
    wait_until("Nova takes the host back", lambda: _is_taken_back(cloud, second), 90)
    wait_until("it takes servers", lambda: cloud.servers.compute_service(second.name)["state"] == "up", 60)
    _require_here_alone(server, cloud.first, second)


def _is_taken_back(cloud, host):
    try:
        cloud.servers.force_down(host.name, False)
    except ApiError as error:
        assert "evacuation migration records remain" in error.message
        return False
    return True


def test_a_host_that_gets_short_of_memory_moves_a_server_to_another(cloud, second, flavor):
    server = cloud.servers.create("pushed-out", flavor, host=cloud.first.name)
    cloud.servers.wait_for(server, "ACTIVE")
    cloud.booted(server).close()
    _wait_until_limited(cloud.first, server)
    cloud.press("evict_servers = on")
    move = wait_until("Nova is asked to move it", lambda: cloud.notifications("move", server), 60)[0]
    assert move["outcome"] == "accepted", move["reason"]
    _wait_until_on(cloud, server, second)
    _require_here_alone(server, second, cloud.first)
