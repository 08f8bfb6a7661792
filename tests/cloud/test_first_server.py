# SPDX-License-Identifier: Apache-2.0
"""The one test on a real OpenStack that plain ./test runs, too: a server whose flavor carries a policy, from its creation to its end."""

from testbed.sizes import MIB


def test_a_server_is_attached_before_its_kernel_is_up_and_shows_its_figures(cloud):
    flavor = cloud.flavor("limited", 256, policy="limit", limit="40%")
    server = cloud.servers.create("limited", flavor)
    cloud.servers.wait_for(server, "ACTIVE")
    figures = cloud.wait_for_figures(server, "attached", lambda figures: figures["State"] == "attached", 30)
    assert '"ready"' not in cloud.servers.console(server)
    assert cloud.metadata(server) == f"<overcommit limit=\"{256 * MIB * 40 // 100}\"/>"
    guest = cloud.booted(server)
    guest.request(f"fill {150 * MIB} 7 10", seconds=180)
    figures = cloud.wait_for_figures(server, "limit", lambda figures: figures["LimitMet"] and figures["ColdBytes"] > 60 * MIB, 90)
    assert figures["LimitBytes"] == 256 * MIB * 40 // 100
    shown = cloud.servers.diagnostics(server, "compute 2.1")
    assert shown["thermocline_limit"] == figures["LimitBytes"] // 1024
    assert shown["thermocline_memory"] == 256 * 1024
    assert 60 * 1024 < shown["thermocline_cold"] <= 256 * 1024
    assert 0 < shown["thermocline_resident"] <= shown["thermocline_limit"]
    assert shown["thermocline_stall_ms"] >= 0
    assert guest.request("verify", seconds=300)["ok"]
    guest.close()
    assert [payload["limit"] for payload in cloud.notifications("attach", server)] == [figures["LimitBytes"]]
    assert not cloud.notifications("refused", server)
    cloud.servers.delete(server)
    cloud.wait_for_capacity("the host's own", lambda _mib: (said := cloud.servers.memory_inventory())["total"] == said["max_unit"])
