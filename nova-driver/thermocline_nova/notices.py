# SPDX-License-Identifier: Apache-2.0
"""oslo.messaging notifications: thermocline.attach, thermocline.refused, thermocline.pressure (docs/nova.md has their payloads)."""

from nova import context, rpc
from oslo_log import log

LOG = log.getLogger(__name__)


class Notices:
    """Sends; a bus that cannot be reached is logged and stops nothing. The notifier is made when it is first needed: Nova's
    RPC is set up after the driver is loaded."""

    def __init__(self, host):
        self._host = host

    def info(self, event, payload):
        """event without "thermocline."; payload: plain values."""
        self._send("info", event, payload)

    def warn(self, event, payload):
        """As info(), for what an operator should look at."""
        self._send("warn", event, payload)

    def _send(self, priority, event, payload):
        try:
            # Not rpc.get_notifier(): that warns of every event that Nova does not know.
            notifier = rpc.LEGACY_NOTIFIER.prepare(publisher_id=f"thermocline.{self._host}")
            getattr(notifier, priority)(context.get_admin_context(), f"thermocline.{event}", payload)
        except Exception:  # whatever a messaging driver raises: it must not reach what Nova is doing
            LOG.warning("The notification thermocline.%s could not be sent", event, exc_info=True)
