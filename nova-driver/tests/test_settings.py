# SPDX-License-Identifier: Apache-2.0
import pytest
from thermocline_nova.errors import BadSetting
from thermocline_nova.settings import MIB, Settings, check_one, read_settings

_MEMORY = 1024 * MIB


def _read(image=None, **flavor):
    return read_settings({f"thermocline:{key}": value for key, value in flavor.items()}, image or {}, _MEMORY)


@pytest.mark.parametrize("flavor, expected", [
    ({}, None),
    ({"policy": "off", "limit": "512MiB"}, None),
    ({"policy": "attach"}, Settings()),
    ({"policy": "limit", "limit": "512MiB"}, Settings(limit=512 * MIB)),
    ({"limit": "75%"}, Settings(limit=768 * MIB)),
    ({"limit": "64 MiB"}, Settings(limit=64 * MIB)),  # the least: a sixteenth
    ({"limit": "1G"}, Settings(limit=_MEMORY)),  # the most
    ({"limit": "512MB"}, Settings(limit=512_000_000)),
    ({"max_stall": "0.5%"}, Settings(max_stall=0.005)),
    ({"max_stall": "0.0001"}, Settings(max_stall=0.0001)),
    ({"policy": "proactive", "max_stall": "50%", "min_resident": "25%", "limit": "512MiB"}, Settings(512 * MIB, 0.5, 256 * MIB)),
    ({"priority": "1000"}, Settings(priority=1000)),
    ({"policy": "attach", "priority": "1"}, Settings(priority=1)),
    ({"policy": "limit", "limit": "512M", "priority": "200"}, Settings(limit=512 * MIB, priority=200)),
    ({"policy": "off", "priority": "200"}, None),
])
def test_what_is_right_is_read(flavor, expected):
    assert _read(**flavor) == expected


@pytest.mark.parametrize("flavor, message", [
    ({"policy": "Off"}, "thermocline:policy=Off: there is no such policy; it may be off, attach, limit or proactive"),
    ({"policy": "limit"}, "thermocline:policy=limit: it needs thermocline:limit"),
    ({"policy": "proactive", "limit": "512M"}, "thermocline:policy=proactive: it needs thermocline:max_stall"),
    ({"limit": "63MiB"}, "63 MiB is not between 64 MiB and the flavor's 1024 MiB"),
    ({"limit": "1025MiB"}, "1025 MiB is not between 64 MiB and the flavor's 1024 MiB"),
    ({"limit": "0"}, "thermocline:limit=0: '0' is 0"),
    ({"limit": "-5M"}, "'-5M' is not a size; write for example 384MiB or 75%"),
    ({"limit": "much"}, "'much' is not a size"),
    ({"limit": "1e9"}, "'1e9' is not a size"),
    ({"limit": "nan"}, "'nan' is not a size"),
    ({"max_stall": "0.005%"}, "thermocline:max_stall=0.005%: it is out of range"),
    ({"max_stall": "51%"}, "thermocline:max_stall=51%: it is out of range"),
    ({"max_stall": "a bit"}, "'a bit' is not a share of time"),
    ({"max_stall": "1%", "min_resident": "2GiB"}, "2048 MiB is more than the flavor's 1024 MiB"),
    ({"min_resident": "128MiB"}, "only the proactive policy follows it"),
    ({"policy": "limit", "limit": "512M", "max_stall": "1%"}, "policy limit does not follow it"),
    ({"policy": "attach", "limit": "512M"}, "policy attach does not follow it"),
    ({"priority": "0"}, "thermocline:priority=0: it is no such number; it may be a whole number from 1 to 1000"),
    ({"priority": "1001"}, "thermocline:priority=1001: it is no such number"),
    ({"priority": "-1"}, "it is no such number"),
    ({"priority": "1.5"}, "it is no such number"),
    ({"priority": "high"}, "it is no such number"),
    ({"priority": "\u0663"}, "it is no such number"),
    ({"policy": "off", "priority": "0"}, "it is no such number"),
    ({"limits": "5M"}, "thermocline:limits is not known; there are policy, limit, max_stall, min_resident, priority"),
])
def test_what_is_wrong_is_named(flavor, message):
    with pytest.raises(BadSetting) as wrong:
        _read(**flavor)
    assert message in str(wrong.value)


def test_an_image_adds_to_the_flavor():
    assert _read({"thermocline_max_stall": "1%", "os_distro": "debian"}, limit="512M") == Settings(512 * MIB, 0.01)


def test_an_image_may_repeat_the_flavor():
    assert _read({"thermocline_limit": "512M"}, limit="512M") == Settings(512 * MIB)


def test_an_image_must_not_contradict_the_flavor():
    with pytest.raises(BadSetting, match="the image's thermocline_policy=off contradicts the flavor's thermocline:policy=limit"):
        _read({"thermocline_policy": "off"}, policy="limit", limit="512M")


@pytest.mark.parametrize("name, value", [("policy", "fast"), ("limit", "x"), ("limit", "0"), ("max_stall", "2"), ("min_resident", ""),
                                         ("priority", "0"), ("other", "1")])
def test_one_wrong_value_is_refused_by_itself(name, value):
    with pytest.raises(BadSetting, match=f"thermocline:{name}"):
        check_one(name, value)


@pytest.mark.parametrize("name, value", [("policy", "off"), ("limit", "16MiB"), ("limit", "3%"), ("max_stall", "1%"), ("min_resident", "1G"),
                                         ("priority", "7")])
def test_one_right_value_passes_by_itself(name, value):
    check_one(name, value)
