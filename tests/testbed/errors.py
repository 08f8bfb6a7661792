# SPDX-License-Identifier: Apache-2.0
"""The one exception that a person who runs the demo or a test should read as plain text."""


class TestbedError(Exception):
    """Something the testbed needs did not happen; the message says what and where to look."""

    __test__ = False  # not a test class, whatever its name starts with
