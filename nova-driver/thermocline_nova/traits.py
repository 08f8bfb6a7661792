# SPDX-License-Identifier: Apache-2.0
"""Traits of the compute node in Placement, for flavors that require a host that can overcommit."""

CAN_OVERCOMMIT = "CUSTOM_THERMOCLINE"
# By D-Bus's property Mechanism.
MECHANISMS = {"move": "CUSTOM_THERMOCLINE_MOVE", "copy": "CUSTOM_THERMOCLINE_COPY", "unmap": "CUSTOM_THERMOCLINE_UNMAP"}
ALL = {CAN_OVERCOMMIT, *MECHANISMS.values()}


def wanted(doctor_is_well, mechanisms):
    """The set that the host has: the mechanisms are those of its attached domains."""
    if not doctor_is_well:
        return set()
    return {CAN_OVERCOMMIT} | {MECHANISMS[each] for each in mechanisms if each in MECHANISMS}
