# SPDX-License-Identifier: Apache-2.0
"""The daemon's figures in Nova's diagnostics of a server."""

_SHOWN = ("memory", "resident", "staged", "cold", "store", "frozen", "used", "limit")


def add_figures(output, figures):
    """Adds thermocline_NAME to the dictionary, sizes in KiB as Nova's own; stall in milliseconds, and as a share of the last second."""
    for name in _SHOWN:
        output[f"thermocline_{name}"] = getattr(figures, name) // 1024
    output["thermocline_stall_ms"] = figures.stall // 1_000_000
    output["thermocline_stall_ratio"] = figures.stall_ratio
