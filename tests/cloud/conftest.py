# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests on a real OpenStack: one cloud for all of them, with our driver in its nova-compute, and a thermoclined
beside its libvirtd. What is started is ended, also where a test fails."""

import pytest

from testbed.abandoned import clear_abandoned_runs
from testbed.interrupts import signals_as_exceptions
from testbed.run_dir import run_directory

from .overcommitted_cloud import OvercommittedCloud


@pytest.fixture(scope="session")
def _overcommitted():
    clear_abandoned_runs()
    with signals_as_exceptions(), run_directory() as folder, run_directory(on_disk=True) as disk, OvercommittedCloud(folder, disk) as cloud:
        yield cloud


@pytest.fixture
def cloud(_overcommitted):
    """The cloud, up, with the daemon running and no server; servers and changed settings are gone after the test. Where it fails,
    pytest shows what nova-compute complained of meanwhile."""
    before = len(_overcommitted.log())
    yield _overcommitted
    complaints = [line for line in _overcommitted.log()[before:].splitlines() if " ERROR " in line or " WARNING " in line]
    print("\n".join(complaints[-80:]))
    _overcommitted.put_right()
