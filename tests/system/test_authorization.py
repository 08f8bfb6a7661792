# SPDX-License-Identifier: Apache-2.0
"""Who may change something. Other users' calls, owners and polkit's answers are bus_test's and authorizer_test's; here is what is
installed."""

import re
import xml.etree.ElementTree as ElementTree

from testbed.paths import ROOT


def test_polkit_has_the_actions_that_the_daemon_asks_for():
    policy = ElementTree.parse(ROOT / "dbus/org.thermocline1.policy")
    declared = {action.get("id") for action in policy.iter("action")}
    asked = set(re.findall(r'"(org\.thermocline1\.manage-[a-z]+)"', (ROOT / "daemon/authorizer.cpp").read_text()))
    assert declared == asked and len(asked) == 2
    for action in policy.iter("action"):
        defaults = {element.tag: element.text for element in action.find("defaults")}
        assert set(defaults) == {"allow_any", "allow_inactive", "allow_active"}
        assert all(value.startswith("auth_admin") for value in defaults.values())


def test_whatever_changes_something_is_asked_for_and_the_rest_is_not():
    """Each method of the interfaces is either listed for everyone to call and answered at once, or goes through change()."""
    bus = (ROOT / "dbus/org.thermocline1.conf").read_text()
    for interface, source in (("Domain", "daemon/domain_object.cpp"), ("Manager", "daemon/manager_object.cpp")):
        xml = ElementTree.parse(ROOT / f"dbus/org.thermocline1.{interface}.xml")
        code = (ROOT / source).read_text()
        for method in xml.iter("method"):
            name = method.get("name")
            assert f'org.thermocline1.{interface}" send_member="{name}"' in bus, name
            body = re.search(rf"{interface}Object::{name}\(.*?\n}}\n", code, re.DOTALL)[0]
            reads = name.startswith(("Get", "List", "Lookup")) or name in ("Doctor", "Plan")
            assert ("change(std::move(result)" in body) != reads, name
