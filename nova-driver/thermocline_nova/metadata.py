# SPDX-License-Identifier: Apache-2.0
"""The <overcommit> element of a domain's XML metadata, which the daemon follows (docs/thermocline-domain.rng)."""

from lxml import etree
from nova.virt.libvirt import config

from .settings import DEFAULT_PRIORITY

NAMESPACE = "http://thermocline.org/xmlns/libvirt/domain/1.0"


class OvercommitMetadata(config.LibvirtConfigObject):
    """Goes into LibvirtConfigGuest.metadata beside Nova's own element."""

    def __init__(self, settings):
        super().__init__(root_name="overcommit", ns_prefix="thermocline", ns_uri=NAMESPACE)
        self.settings = settings

    def format_dom(self):
        """<thermocline:overcommit limit="BYTES" max-stall="SHARE" min-resident="BYTES" priority="NUMBER"/>, each where it is set."""
        element = super().format_dom()
        if self.settings.limit:
            element.set("limit", str(self.settings.limit))
        if self.settings.max_stall:
            element.set("max-stall", f"{self.settings.max_stall:.6g}")
        if self.settings.min_resident:
            element.set("min-resident", str(self.settings.min_resident))
        if self.settings.priority != DEFAULT_PRIORITY:
            element.set("priority", str(self.settings.priority))
        return element

    @staticmethod
    def is_in(xml):
        """True where the domain's XML has the element."""
        return etree.fromstring(xml).find(f"metadata/{{{NAMESPACE}}}overcommit") is not None
