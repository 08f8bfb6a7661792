# SPDX-License-Identifier: Apache-2.0
"""Asserts on what must be refused: the typed error on D-Bus, exit code and message on the command line."""

import pytest

from testbed.thermocline_client import ThermoclineError

# Exit codes of thermoctl.
FAILURE, USAGE, UNREACHABLE, NO_SUCH_DOMAIN, NOT_SUPPORTED = 1, 2, 3, 4, 5


def refused(name, action, *arguments):
    """Runs the action, which must fail with that error; returns its message."""
    with pytest.raises(ThermoclineError) as failure:
        action(*arguments)
    assert failure.value.name == name, failure.value
    assert len(failure.value.message) > 10
    return failure.value.message


def refused_by_cli(thermocline, code, *arguments):
    outcome = thermocline.ctl(*arguments)
    assert outcome.code == code, outcome
    assert outcome.err.strip()
    return outcome.err
