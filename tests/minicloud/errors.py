# SPDX-License-Identifier: Apache-2.0
"""What the cloud says to people."""

from testbed.errors import TestbedError


class CloudError(TestbedError):
    """Something that the cloud needs did not happen; the message says what, and which log to read."""
