# SPDX-License-Identifier: Apache-2.0
"""A host whose memory gets short. One host has nowhere to move a server to: what is asked for, and Nova's refusal, are real."""

import pytest

from minicloud.errors import CloudError
from testbed.deadline import wait_until
from testbed.sizes import MIB

@pytest.fixture
def servers(cloud):
    """A server whose memory is mostly in its store, and one with all of it resident: dear and cheap to move."""
    dear = cloud.servers.create("dear", cloud.flavor("dear", 256, limit="40%"))
    cheap = cloud.servers.create("cheap", cloud.flavor("cheap", 128, policy="attach"))
    for server in (dear, cheap):
        cloud.servers.wait_for(server, "ACTIVE")
    guest = cloud.booted(dear)
    guest.request(f"fill {150 * MIB} 7 10", seconds=180)
    cloud.wait_for_figures(dear, "limit", lambda figures: figures["LimitMet"] and figures["ColdBytes"] > 60 * MIB, 90)
    cloud.wait_for_figures(cheap, "attached", lambda figures: figures["State"] == "attached")
    yield dear, cheap
    guest.close()


def _wait_for_move(cloud, server):
    return wait_until("the host is to get rid of the server", lambda: cloud.notifications("move", server), 60)


def test_the_host_closes_and_says_which_server_is_to_go_first(cloud, servers):
    dear, cheap = servers
    cloud.press()
    move = _wait_for_move(cloud, cheap)[0]
    assert move["outcome"] == "dry run"
    figures = cloud.figures(cheap)
    assert abs(move["frees_mb"] - figures["UsedBytes"] // MIB) <= 8
    assert abs(move["sends_mb"] - figures["ResidentBytes"] // MIB) <= 8
    assert not cloud.notifications("move", dear)
    cloud.wait_for_capacity("what the two have", lambda mib: mib == 256 + 128)
    late = cloud.servers.create("late", "m96")
    with pytest.raises(CloudError, match="No valid host"):
        cloud.servers.wait_for(late, "ACTIVE")
    cloud.reconfigure()
    cloud.wait_for_capacity("some again", lambda mib: mib > 256 + 128)


def test_nova_is_asked_and_refuses_where_there_is_no_other_host(cloud, servers):
    cloud.press("evict_servers = on")
    for server in reversed(servers):  # the cheap one, then the other
        move = _wait_for_move(cloud, server)[0]
        assert move["outcome"] == "refused"
        assert "No valid host was found" in move["reason"]
        cloud.servers.wait_for(server, "ACTIVE")
        assert cloud.figures(server)["State"] == "attached"
