# SPDX-License-Identifier: Apache-2.0
"""How an unchanged Nova finds the driver and the validators."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from nova import exception
from nova.api.validation.extra_specs import validators
from thermocline_nova import extra_specs, finder

_DISTRIBUTION = Path(__file__).parents[1]
_PROGRAM = """
import sys
import thermocline_nova.finder
thermocline_nova.finder.install()
thermocline_nova.finder.install()
assert [name for name in sys.modules if name.startswith("nova")] == [], "Python's start must not load Nova"
from nova.virt import driver
from oslo_utils import importutils
loaded = importutils.import_class("nova.virt.thermocline.ThermoclineDriver")
import thermocline_nova.driver
assert loaded is thermocline_nova.driver.ThermoclineDriver
assert issubclass(loaded, driver.ComputeDriver)
import nova.virt.thermocline
assert nova.virt.thermocline is thermocline_nova.driver
try:
    importutils.import_class("nova.virt.thermoclin.ThermoclineDriver")
except ImportError as error:
    print(error)
"""


def test_compute_driver_names_our_class():
    result = subprocess.run([sys.executable, "-c", _PROGRAM], cwd=_DISTRIBUTION, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "nova.virt.thermoclin" in result.stdout


def test_novas_own_tests_of_its_driver_hold_for_ours():
    """A few of them; nova-driver/nova-tests without -k runs all, in minutes."""
    result = subprocess.run([sys.executable, _DISTRIBUTION / "nova-tests", "-k", "test_create_guest_", "-k", "test_update_provider_tree",
                             "-k", "test_migrate_disk_and_power_off", "-k", "test_public_api_signatures", "--json"],
                            capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert json.loads(result.stdout)["counts"]["ours"] == json.loads(result.stdout)["counts"]["parent"]
    assert json.loads(result.stdout)["counts"]["ours"]["passed"] > 20


def test_the_finder_says_nothing_of_other_names():
    assert finder._Finder.find_spec("nova.virt.thermocline.more") is None
    assert finder._Finder.find_spec("nova.virt.libvirt") is None


@pytest.fixture
def registered(monkeypatch):
    """Nova's table of validators, with ours in it."""
    table = {validator.name: validator for validator in extra_specs.register()}
    monkeypatch.setattr(validators, "VALIDATORS", table)
    monkeypatch.setattr(validators, "NAMESPACES", {"thermocline", "capabilities"})


@pytest.mark.parametrize("name, value, message", [
    ("thermocline:limit", "lots", "'lots' is not a size"),
    ("thermocline:max_stall", "2", "it may be a share of time from 0.01% to 50%"),
    ("thermocline:policy", "on", "it may be off, attach, limit or proactive"),
    ("thermocline:limt", "1G", "'thermocline:limt' does not appear to be a valid extra spec")])
def test_the_api_refuses_a_bad_extra_spec(registered, name, value, message):
    with pytest.raises(exception.ValidationError) as refused:
        validators.validate(name, value)
    assert message in str(refused.value)


@pytest.mark.parametrize("name, value", [("thermocline:limit", "75%"), ("thermocline:policy", "off"), ("hw:cpu_policy", "x"),
                                         ("capabilities:thermocline_stall_percent", "<= 1")])
def test_the_api_takes_a_good_one_and_others(registered, name, value):
    validators.validate(name, value)
