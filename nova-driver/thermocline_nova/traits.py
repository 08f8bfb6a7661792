# SPDX-License-Identifier: Apache-2.0
"""Traits of the compute node in Placement, for flavors that require a host that can overcommit."""

CAN_OVERCOMMIT = "CUSTOM_THERMOCLINE"
# By D-Bus's property Mechanism.
MECHANISMS = {"move": "CUSTOM_THERMOCLINE_MOVE", "copy": "CUSTOM_THERMOCLINE_COPY", "unmap": "CUSTOM_THERMOCLINE_UNMAP"}
ALL = {CAN_OVERCOMMIT, *MECHANISMS.values()}


def wanted(host):
    """The set that a host with these HostFigures has, None where the daemon is away: the mechanisms are those of its attached domains."""
    if host is None:
        return set()
    used = {each.mechanism for each in host.domains.values() if each.state == "attached"}
    return {CAN_OVERCOMMIT} | {MECHANISMS[each] for each in used if each in MECHANISMS}
