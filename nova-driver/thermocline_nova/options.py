# SPDX-License-Identifier: Apache-2.0
"""The sections [thermocline] and [thermocline_nova] of nova.conf."""

from oslo_config import cfg

from . import nova_api

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
                    "it left, the host takes no more servers; with less than a quarter, evict_servers says what follows."),
    cfg.IntOpt("hysteresis_mb", default=256, min=0, help="Smaller changes of MEMORY_MB are not reported."),
    cfg.StrOpt("evict_servers", default="dry-run", choices=["off", "dry-run", "on"],
               help="Whether Nova is asked to move servers away from a host that takes no more of them and has less than a quarter of its "
                    "headroom_mb left: the cheapest first, by live migration. dry-run: what would be asked for is logged and notified. "
                    f"on needs credentials of an admin in [{nova_api.GROUP}]."),
    cfg.IntOpt("evict_interval", default=300, min=1, help="Seconds from one such request to the next, at the least."),
]


def register(conf):
    """Makes conf.thermocline and conf.thermocline_nova. A second call does nothing."""
    for group, options in list_opts():
        conf.register_opts(options, group=group)


def list_opts():
    """For oslo-config-generator."""
    return [(GROUP, OPTIONS), (nova_api.GROUP, nova_api.options())]
