# SPDX-License-Identifier: Apache-2.0
"""A server whose flavor carries a policy, from its creation to its end."""

import pytest

from minicloud.errors import CloudError
from minicloud.images import IMAGE, copy_image, find_image
from minicloud.rest import ApiError
from testbed.sizes import MIB


def test_a_server_is_overcommitted_again_after_it_was_stopped_and_started(cloud):
    server = cloud.servers.create("again", cloud.flavor("again", 128, limit="96MiB"))
    cloud.servers.wait_for(server, "ACTIVE")
    cloud.wait_for_figures(server, "the limit", lambda figures: figures["LimitBytes"] == 96 * MIB)
    cloud.servers.act(server, "os-stop")
    cloud.servers.wait_for(server, "SHUTOFF")
    cloud.servers.act(server, "os-start")
    cloud.servers.wait_for(server, "ACTIVE")
    figures = cloud.wait_for_figures(server, "the limit", lambda figures: figures["State"] == "attached" and figures["LimitBytes"] == 96 * MIB)
    assert figures["Running"]


def test_a_resize_changes_what_holds(cloud):
    server = cloud.servers.create("resized", cloud.flavor("small-limit", 128, limit="96MiB"))
    cloud.servers.wait_for(server, "ACTIVE")
    cloud.wait_for_figures(server, "the limit", lambda figures: figures["LimitBytes"] == 96 * MIB)
    cloud.resize(server, cloud.flavor("larger-limit", 256, limit="128MiB"))
    cloud.wait_for_figures(server, "the new limit", lambda figures: figures["State"] == "attached" and figures["LimitBytes"] == 128 * MIB)
    assert cloud.metadata(server) == f"<overcommit limit=\"{128 * MIB}\"/>"


def test_a_resize_to_a_flavor_that_asks_for_nothing_sets_the_server_free(cloud):
    server = cloud.servers.create("freed", cloud.flavor("limited-before", 128, limit="96MiB"))
    cloud.servers.wait_for(server, "ACTIVE")
    cloud.wait_for_figures(server, "the limit", lambda figures: figures["LimitBytes"] == 96 * MIB)
    cloud.resize(server, "m256")
    _wait_until_free(cloud, server)


def _wait_until_free(cloud, server):
    """Until nothing is remembered of what the server has asked for before."""
    cloud.wait_for_figures(server, "free", lambda figures: figures["Running"] and figures["State"] == "detached" and not figures["Managed"]
                           and not figures["LimitBytes"])
    assert cloud.metadata(server) is None


def test_a_rebuild_follows_the_new_image(cloud):
    asks = copy_image(cloud.servers.rest, "rebuilds", thermocline_limit="90MiB", thermocline_priority="300")
    server = cloud.servers.create("rebuilt", "m128")
    cloud.servers.wait_for(server, "ACTIVE")
    assert cloud.metadata(server) is None
    cloud.rebuild(server, asks)
    cloud.wait_for_figures(server, "the image's wish", lambda figures: figures["State"] == "attached" and figures["LimitBytes"] == 90 * MIB
                           and figures["Priority"] == 300)
    assert cloud.metadata(server) == f"<overcommit limit=\"{90 * MIB}\" priority=\"300\"/>"
    cloud.rebuild(server, find_image(cloud.servers.rest, IMAGE)["id"])
    _wait_until_free(cloud, server)


def test_a_server_that_was_shelved_is_overcommitted_again(cloud):
    server = cloud.servers.create("shelved", cloud.flavor("shelved", 128, limit="96MiB", priority="30"))
    cloud.servers.wait_for(server, "ACTIVE")
    cloud.servers.act(server, "shelve")
    cloud.servers.wait_for(server, "SHELVED_OFFLOADED")
    cloud.servers.act(server, "unshelve")
    cloud.servers.wait_for(server, "ACTIVE")
    cloud.wait_for_figures(server, "attached", lambda figures: figures["State"] == "attached" and figures["LimitBytes"] == 96 * MIB
                           and figures["Priority"] == 30)
    assert cloud.metadata(server) == f"<overcommit limit=\"{96 * MIB}\" priority=\"30\"/>"


def test_a_server_without_a_policy_is_left_alone(cloud):
    server = cloud.servers.create("plain", "m128")
    cloud.servers.wait_for(server, "ACTIVE")
    assert cloud.metadata(server) is None
    assert cloud.figures(server)["State"] == "detached"


def test_a_bad_extra_spec_is_refused_by_the_api(cloud):
    with pytest.raises(ApiError) as refused:
        cloud.flavor("bad", 128, max_stall="60%")
    assert refused.value.status == 400
    assert refused.value.message == ("thermocline:max_stall=60%: it is out of range; it may be a share of time from 0.01% to 50% "
                                     "(0.5% or 0.005)")


def test_a_limit_that_does_not_suit_the_flavor_is_the_servers_fault_message(cloud):
    server = cloud.servers.create("too-much", cloud.flavor("too-much", 128, limit="1GiB"))
    with pytest.raises(CloudError, match="thermocline:limit=1GiB: 1024 MiB is not between 16 MiB and the flavor's 128 MiB"):
        cloud.servers.wait_for(server, "ACTIVE")


def test_an_image_asks_and_must_not_contradict_the_flavor(cloud):
    image = copy_image(cloud.servers.rest, "asks", thermocline_limit="100MiB")
    server = cloud.servers.create("by-image", "m128", image)
    cloud.servers.wait_for(server, "ACTIVE")
    assert cloud.metadata(server) == f"<overcommit limit=\"{100 * MIB}\"/>"
    other = cloud.servers.create("contradicts", cloud.flavor("other", 128, limit="90MiB"), image)
    with pytest.raises(CloudError, match="thermocline_limit=100MiB contradicts the flavor's thermocline:limit=90MiB"):
        cloud.servers.wait_for(other, "ACTIVE")
