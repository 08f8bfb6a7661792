# SPDX-License-Identifier: Apache-2.0
"""More servers than there is memory for."""

import pytest

from minicloud.errors import CloudError
from testbed.sizes import MIB

_BUDGET_MIB = 1024  # what the host may give to servers
_SERVERS = 8
_EACH_MIB = 2 * _BUDGET_MIB // _SERVERS
# The flavor: 70 % of its memory is yielded for certain, of which the driver keeps a tenth back.
_LIMIT_PERCENT = 30
_FILLED_MIB = 80  # with the guest's own, half as much again as the limit


@pytest.fixture
def budget(cloud):
    """Options that leave only the budget to servers."""
    return {"reserved_mb": cloud.servers.memory_inventory()["max_unit"] - _BUDGET_MIB}


def test_eight_servers_of_twice_the_budget_run_and_stock_nova_refuses_them(cloud, budget):
    flavor = cloud.flavor("eighth", _EACH_MIB, policy="limit", limit=f"{_LIMIT_PERCENT}%")
    cloud.reconfigure(driver="stock", **budget)
    cloud.wait_for_capacity("the budget", lambda mib: mib == _BUDGET_MIB)
    with pytest.raises(CloudError, match="No valid host"):
        for index in range(_SERVERS):
            cloud.servers.wait_for(cloud.servers.create(f"stock-{index}", flavor), "ACTIVE")
    placed = [server for server in cloud.servers.list() if server["status"] == "ACTIVE"]
    assert len(placed) == _BUDGET_MIB // _EACH_MIB
    cloud.delete_servers()

    cloud.reconfigure(**budget)
    servers = []
    for index in range(_SERVERS):
        # All that are there yield their memory once they are attached; then the next one finds a place.
        cloud.wait_for_capacity("room for one more", lambda mib: mib >= (len(servers) + 1) * _EACH_MIB)
        servers.append(cloud.servers.create(f"server-{index}", flavor))
        cloud.servers.wait_for(servers[-1], "ACTIVE")
    guests = [cloud.booted(server, 240) for server in servers]
    for index, guest in enumerate(guests):
        guest.request(f"fill {_FILLED_MIB * MIB} {index + 1} 10", seconds=180)
    used = 0
    for server in servers:
        figures = cloud.wait_for_figures(server, "limit", lambda figures: figures["LimitMet"] and figures["ColdBytes"] > 10 * MIB, 120)
        assert figures["LimitBytes"] == _EACH_MIB * MIB * _LIMIT_PERCENT // 100
        assert figures["UsedBytes"] <= figures["LimitBytes"]
        used += figures["UsedBytes"]
    assert used <= _BUDGET_MIB * MIB
    for guest in guests:
        assert guest.request("verify", seconds=300)["ok"]
        guest.close()

    cloud.delete_servers()
    cloud.wait_for_capacity("the budget again", lambda mib: mib == _BUDGET_MIB)


def test_traits_say_that_the_host_can_be_overcommitted(cloud):
    assert "CUSTOM_THERMOCLINE" in cloud.servers.traits()
    server = cloud.servers.create("traits", cloud.flavor("traits", 128, limit="96MiB"))
    cloud.servers.wait_for(server, "ACTIVE")
    cloud.wait_for_capacity("a mechanism", lambda _mib: "CUSTOM_THERMOCLINE_MOVE" in cloud.servers.traits())
