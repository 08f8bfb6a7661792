# SPDX-License-Identifier: Apache-2.0
"""What Placement has given out of the host's memory already. No less is ever offered: the host gains nothing by it, and Placement would
refuse what a live migration, or a resize, begins with, which is to give the same memory to the migration instead."""

import math

from nova import context
from nova.scheduler.client import report
from oslo_log import log

LOG = log.getLogger(__name__)


def allocated_mb(provider):
    """MEMORY_MB of this resource provider (UUID) that is given out, in MiB. None where Placement does not say."""
    try:
        found = report.report_client_singleton().get_allocations_for_resource_provider(context.get_admin_context(), provider)
        return sum(each["resources"].get("MEMORY_MB", 0) for each in found.allocations.values())
    except Exception as error:  # whatever the client raises: a report is not to fail for it
        LOG.warning("Placement does not say what is given out of the host's memory; servers may not be movable: %s", error)
        return None


def keep(memory, allocated, full):
    """Changes the inventory of MEMORY_MB so that what is given out fits; where the host is full, nothing else does."""
    needed = math.ceil(allocated / memory["allocation_ratio"])
    memory["total"] = max(memory["total"], needed + memory["reserved"])
    if full:
        memory["reserved"] = memory["total"] - needed
