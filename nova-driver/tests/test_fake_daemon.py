# SPDX-License-Identifier: Apache-2.0
"""The fake speaks the interfaces that the real daemon's glue is generated from."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from .fake_daemon import ATTACHED, FakeDaemon

_DBUS = Path(__file__).parents[2] / "dbus"


def _interface(name):
    return ElementTree.parse(_DBUS / f"{name}.xml").getroot().find("interface")


def test_its_properties_have_the_real_types():
    real = {each.get("name"): each.get("type") for each in _interface("org.thermocline1.Domain").iter("property")}
    assert {name: signature for name, (signature, _) in ATTACHED.items()} == {name: real.get(name) for name in ATTACHED}


def test_the_budget_has_the_real_type(bus):
    real = {each.get("name"): each.get("type") for each in _interface("org.thermocline1.Manager").iter("property")}
    with FakeDaemon(bus.address) as fake:
        assert fake.budget[0] == real["Budget"]


def test_the_methods_that_the_driver_calls_take_what_it_sends():
    methods = {method.get("name"): "".join(each.get("type") for each in method.findall("arg[@direction='in']"))
               for name in ("Domain", "Manager") for method in _interface(f"org.thermocline1.{name}").iter("method")}
    assert {name: methods[name] for name in ("Attach", "Detach", "SetLimit", "ClearLimit", "SetProactive", "SetPriority", "LookupByUuid")} == {
        "Attach": "", "Detach": "", "SetLimit": "t", "ClearLimit": "", "SetProactive": "dt", "SetPriority": "u", "LookupByUuid": "s"}
