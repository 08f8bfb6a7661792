# SPDX-License-Identifier: Apache-2.0
"""The section [thermocline] of nova.conf."""

from oslo_config import cfg

GROUP = "thermocline"
OPTIONS = [
    cfg.StrOpt("bus_address", default="SYSTEM", help="D-Bus address of the bus that thermoclined is on; SYSTEM: the host's own."),
    cfg.FloatOpt("timeout", default=2.0, min=0.05, max=60.0,
                 help="Seconds that the daemon may take to answer with its figures. Nova's periodic update waits for no longer."),
    cfg.FloatOpt("attach_timeout", default=30.0, min=1.0, max=600.0,
                 help="Seconds that attaching to a server that has started may take. The server's boot does not wait for it."),
    cfg.BoolOpt("inventory", default=True,
                help="Report to Placement the memory that overcommit yields, on top of the host's. False: Nova's own figure."),
    cfg.FloatOpt("safety_margin", default=0.1, min=0.0, max=1.0, help="Share of what overcommit yields that is not given out."),
    cfg.FloatOpt("max_ratio", default=2.0, min=1.0, max=16.0, help="MEMORY_MB is never more than this times the host's memory."),
    cfg.IntOpt("headroom_mb", default=1024, min=0,
               help="Memory of the host that is to stay available. What is missing of it is taken from MEMORY_MB; with less than half of "
                    "it left, the host takes no more servers."),
    cfg.IntOpt("hysteresis_mb", default=256, min=0, help="Smaller changes of MEMORY_MB are not reported."),
]


def register(conf):
    """Makes conf.thermocline. A second call does nothing."""
    conf.register_opts(OPTIONS, group=GROUP)


def list_opts():
    """For oslo-config-generator."""
    return [(GROUP, OPTIONS)]
