# SPDX-License-Identifier: Apache-2.0
"""All of a host's overcommitted servers together, in Nova's record of its compute node."""

import json

_SUMMED = ("memory", "resident", "staged", "cold", "store", "frozen", "used")
MIB = 1 << 20
PREFIX = "thermocline_"
NAMES = (*(f"{name}_mb" for name in _SUMMED), "servers", "stall_percent")


def add_statistics(resource, domains):
    """To what get_available_resource() returns: as statistics, which scheduler filters see (`capabilities:thermocline_cold_mb`), and as one
    more key of cpu_info, the only place of the API's hypervisors that has room (below microversion 2.88). domains: {UUID: Figures}."""
    attached = [each for each in domains.values() if each.state == "attached"]
    found = {f"{name}_mb": sum(getattr(each, name) for each in attached) // MIB for name in _SUMMED}
    found["servers"] = len(attached)
    # Of the one that waits most: a mean over many hides it.
    found["stall_percent"] = round(100 * max((each.stall_ratio for each in attached), default=0.0), 3)
    resource["stats"] = {**(resource.get("stats") or {}), **{PREFIX + name: value for name, value in found.items()}}
    resource["cpu_info"] = json.dumps({**json.loads(resource["cpu_info"]), "thermocline": found})
