# SPDX-License-Identifier: Apache-2.0
"""Rules for new domains: by name and by metadata, reloaded while the daemon runs; a broken file keeps the former ones."""

import signal

import pytest

from testbed.sizes import MIB
from testbed.virsh import overcommit, virsh

from .refusals import refused
from .thermocline import Thermocline


class _Rules:
    def __init__(self, directory):
        self.directory = directory
        directory.mkdir()

    def write(self, name, text):
        path = self.directory / name
        path.write_text(text)
        return path


@pytest.fixture
def ruled(testbed):
    """A daemon with a directory of rules that is empty as yet."""
    with Thermocline(testbed, start=False) as thermocline:
        thermocline.rules = _Rules(thermocline.daemon.config_dir)
        thermocline.start()
        yield thermocline


def _reload(thermocline):
    thermocline.client.manager("ReloadConfiguration")


def _limit_of_attached(figures):
    return figures["State"] == "attached" and figures["LimitBytes"]


def test_a_new_domain_gets_what_its_rule_says(ruled, own_guest):
    ruled.rules.write("10-guests.toml", '[[rule]]\nname = "thermocline-ruled-*"\nlimit = "50%"\nmax-stall = "1%"\n')
    _reload(ruled)
    guest = own_guest("ruled")
    guest.start()
    domain = ruled.domain(guest)
    figures = domain.wait_for("its rule", lambda figures: _limit_of_attached(figures) == 128 * MIB)
    assert figures["ProactiveMaxStall"] == 0.01
    # The domain's own XML stays as it was: the rule may change.
    assert overcommit(guest.name) is None
    guest.fill(144 * MIB, seed=311)
    domain.wait_for_limit()
    guest.verify()

    ruled.rules.write("10-guests.toml", '[[rule]]\nname = "thermocline-ruled-*"\nlimit = "75%"\n')
    ruled.daemon.process.signal(signal.SIGHUP)
    figures = domain.wait_for("the rule of now", lambda figures: _limit_of_attached(figures) == 192 * MIB)
    assert figures["ProactiveMaxStall"] == 0

    # What somebody says of the domain itself is stronger than any rule.
    domain.set_limit(160 * MIB)
    ruled.rules.write("10-guests.toml", '[[rule]]\nname = "thermocline-ruled-*"\nlimit = "90%"\n')
    _reload(ruled)
    ruled.daemon.end()
    ruled.start()
    domain = ruled.domain(guest)
    domain.wait_for_state("attached")
    assert domain.figures()["LimitBytes"] == 160 * MIB
    domain.detach()
    _reload(ruled)
    assert domain.figures()["State"] == "detached"
    guest.verify()


def test_a_rule_by_metadata_and_a_default(ruled, own_guest):
    ruled.rules.write("10-lab.toml", '[[rule]]\nmetadata = { namespace = "urn:lab", path = "@tier", value = "gold" }\n'
                                     'attach = false\n')
    ruled.rules.write("20-rest.toml", '[default]\nlimit = "128MiB"\n')
    _reload(ruled)
    gold, plain = own_guest("gold"), own_guest("plain")
    for guest in (gold, plain):
        guest.define()
    virsh("metadata", gold.name, "urn:lab", "--key", "lab", "--set", '<vm tier="gold"/>', "--config")
    for guest in (gold, plain):
        guest.start()
    ruled.domain(plain).wait_for("the default", lambda figures: _limit_of_attached(figures) == 128 * MIB)
    figures = ruled.domain(gold).figures()
    assert (figures["Running"], figures["State"], figures["Managed"]) == (True, "detached", False)


def test_a_broken_file_keeps_the_former_rules(ruled, own_guest):
    path = ruled.rules.write("10.toml", '[default]\nlimit = "128MiB"\n')
    _reload(ruled)
    assert ruled.client.manager_property("ConfigurationNote") == ""
    path.write_text('[default]\nlimit = "128MiB"\n\nlimt = "64MiB"\n')
    message = refused("InvalidArgument", _reload, ruled)
    assert f"{path}:4" in message and "there is no limt here" in message
    assert ruled.client.manager_property("ConfigurationNote") == message
    assert message in ruled.ctl("status").out
    assert message in ruled.daemon.log_path.read_text()

    guest = own_guest("former")
    guest.start()
    ruled.domain(guest).wait_for("the former default", lambda figures: _limit_of_attached(figures) == 128 * MIB)
    path.write_text('[default]\nlimit = "96MiB"\n')
    ruled.daemon.process.signal(signal.SIGHUP)
    ruled.client.wait_for_manager_property("ConfigurationNote", "")
    ruled.domain(guest).wait_for("the new default", lambda figures: _limit_of_attached(figures) == 96 * MIB)


def test_a_daemon_that_starts_with_a_broken_file_says_so_and_runs(testbed):
    with Thermocline(testbed, start=False) as thermocline:
        path = _Rules(thermocline.daemon.config_dir).write("10.toml", "[[rule]]\n")
        thermocline.start()
        assert f"{path}:1" in thermocline.client.manager_property("ConfigurationNote")
