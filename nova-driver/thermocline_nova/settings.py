# SPDX-License-Identifier: Apache-2.0
"""What a flavor's extra specs (thermocline:NAME) and an image's properties (thermocline_NAME) ask for, checked."""

import re
from dataclasses import dataclass

from .errors import BadSetting
from .quantities import parse_share, parse_size

MIB = 1 << 20
FLAVOR_PREFIX = "thermocline:"
IMAGE_PREFIX = "thermocline_"
# name: what it may be, for people.
KNOWN = {
    "policy": "off, attach, limit or proactive",
    "limit": "a size (384MiB) or a share of the flavor's memory (75%)",
    "max_stall": "a share of time from 0.01% to 50% (0.5% or 0.005)",
    "min_resident": "a size (128MiB) or a share of the flavor's memory (25%)",
    "priority": "a whole number from 1 to 1000",
}
DEFAULT_PRIORITY = 100
_POLICIES = ("off", "attach", "limit", "proactive")
_STALL_RANGE = (0.0001, 0.5)


@dataclass(frozen=True)
class Settings:
    """limit and min_resident in bytes, 0 = none; max_stall as a share of time, 0 = no proactive policy; priority: in this
    proportion servers get what the host's budget has, where that is short."""

    limit: int = 0
    max_stall: float = 0.0
    min_resident: int = 0
    priority: int = DEFAULT_PRIORITY


def read_settings(extra_specs, image_properties, memory_bytes):
    """Settings, or None where the server is to be left alone. The image may add to what the flavor says and not
    contradict it. BadSetting with the whole name, the value and what it may be."""
    values = _gather(extra_specs, FLAVOR_PREFIX)
    for name, (key, value) in _gather(image_properties, IMAGE_PREFIX).items():
        if name in values and values[name][1] != value:
            raise BadSetting(f"the image's {key}={value} contradicts the flavor's {values[name][0]}={values[name][1]}; "
                             "remove one of them")
        values[name] = (key, value)
    if not values:
        return None
    limit = _limit(values, memory_bytes)
    max_stall = _max_stall(values)
    min_resident = _min_resident(values, memory_bytes)
    return _by_policy(values, Settings(limit, max_stall, min_resident, _priority(values)))


def check_one(name, value):
    """Checks one extra spec's value by itself, where the flavor's memory is not known. BadSetting where it is wrong."""
    key = FLAVOR_PREFIX + name
    _known(name, key)
    memory = 1 << 40  # large enough for whatever a size may be; percentages are of this
    {"policy": _policy, "max_stall": _max_stall, "min_resident": lambda values: _min_resident(values, memory),
     "limit": lambda values: _size(values, "limit", memory), "priority": _priority}[name]({name: (key, value)})


def _gather(properties, prefix):
    """{name: (whole key, value)}"""
    found = {}
    for key, value in properties.items():
        if key.startswith(prefix):
            name = key[len(prefix):]
            _known(name, key)
            found[name] = (key, str(value).strip())
    return found


def _known(name, key):
    if name not in KNOWN:
        raise BadSetting(f"{key} is not known; there are {', '.join(KNOWN)}")


def _wrong(values, name, why):
    key, value = values[name]
    return BadSetting(f"{key}={value}: {why}; it may be {KNOWN[name]}")


def _policy(values):
    policy = values["policy"][1] if "policy" in values else ""
    if policy and policy not in _POLICIES:
        raise _wrong(values, "policy", "there is no such policy")
    return policy


def _size(values, name, memory):
    if name not in values:
        return 0
    try:
        return parse_size(values[name][1], memory)
    except ValueError as error:
        raise _wrong(values, name, str(error)) from None


def _limit(values, memory):
    size = _size(values, "limit", memory)
    least = max(16 * MIB, memory // 16)
    if size and not least <= size <= memory:
        raise _wrong(values, "limit", f"{size / MIB:.0f} MiB is not between {least / MIB:.0f} MiB and the flavor's {memory / MIB:.0f} MiB")
    return size


def _min_resident(values, memory):
    size = _size(values, "min_resident", memory)
    if size > memory:
        raise _wrong(values, "min_resident", f"{size / MIB:.0f} MiB is more than the flavor's {memory / MIB:.0f} MiB")
    return size


def _max_stall(values):
    if "max_stall" not in values:
        return 0.0
    try:
        share = parse_share(values["max_stall"][1])
    except ValueError as error:
        raise _wrong(values, "max_stall", str(error)) from None
    if not _STALL_RANGE[0] <= share <= _STALL_RANGE[1]:
        raise _wrong(values, "max_stall", "it is out of range")
    return share


def _priority(values):
    if "priority" not in values:
        return DEFAULT_PRIORITY
    text = values["priority"][1]
    if not re.fullmatch("[0-9]{1,4}", text) or not 1 <= int(text) <= 1000:
        raise _wrong(values, "priority", "it is no such number")
    return int(text)


def _by_policy(values, settings):
    """What the policy needs must be there, and nothing that it would not follow."""
    policy = _policy(values)
    if policy == "off":
        return None
    if policy == "limit" and not settings.limit:
        raise _wrong(values, "policy", "it needs thermocline:limit")
    if policy == "proactive" and not settings.max_stall:
        raise _wrong(values, "policy", "it needs thermocline:max_stall")
    if settings.max_stall and policy in ("attach", "limit"):
        raise _wrong(values, "max_stall", f"policy {policy} does not follow it; use proactive, or no policy")
    if settings.limit and policy == "attach":
        raise _wrong(values, "limit", "policy attach does not follow it; use limit or proactive, or no policy")
    if settings.min_resident and not settings.max_stall:
        raise _wrong(values, "min_resident", "only the proactive policy follows it: it needs thermocline:max_stall")
    return settings
