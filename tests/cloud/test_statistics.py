# SPDX-License-Identifier: Apache-2.0
"""What Nova's record of the compute host says of its overcommitted servers."""

import pytest

from minicloud.errors import CloudError
from minicloud.images import make_flavor
from testbed.deadline import wait_until
from testbed.sizes import MIB


def _said(cloud):
    return cloud.servers.hypervisors("compute 2.87")[0]["cpu_info"].get("thermocline")


def test_the_hypervisors_statistics_have_the_figures(cloud):
    server = cloud.servers.create("counted", cloud.flavor("counted", 256, limit="40%"))
    cloud.servers.wait_for(server, "ACTIVE")
    guest = cloud.booted(server)
    guest.request(f"fill {150 * MIB} 7 10", seconds=180)
    figures = cloud.wait_for_figures(server, "limit", lambda figures: figures["LimitMet"] and figures["ColdBytes"] > 60 * MIB, 90)
    said = wait_until("the figures in the hypervisor's", lambda: (said := _said(cloud)) and said["cold_mb"] > 60 and said, 60)
    guest.close()
    assert (said["servers"], said["memory_mb"]) == (1, figures["MemoryBytes"] // MIB)
    assert 0 < said["resident_mb"] <= said["used_mb"] <= figures["LimitBytes"] // MIB
    assert said["store_mb"] < said["cold_mb"]
    assert said["stall_percent"] >= 0


def test_the_scheduler_sees_them(cloud):
    wait_until("no servers in the statistics", lambda: (said := _said(cloud)) and said["servers"] == 0, 60)
    make_flavor(cloud.servers.rest, "crowd", 128, {"capabilities:thermocline_servers": ">= 1"})
    alone = cloud.servers.create("alone", "crowd")
    with pytest.raises(CloudError, match="No valid host"):
        cloud.servers.wait_for(alone, "ACTIVE")
    cloud.servers.wait_for(cloud.servers.create("first", cloud.flavor("first", 128, limit="96MiB")), "ACTIVE")
    wait_until("a server in the statistics", lambda: _said(cloud)["servers"] == 1, 60)
    cloud.servers.wait_for(cloud.servers.create("second", "crowd"), "ACTIVE")
