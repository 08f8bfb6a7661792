# SPDX-License-Identifier: Apache-2.0
import os
import signal
import subprocess

import pytest

from testbed.errors import TestbedError
from testbed.deadline import wait_until
from testbed.interrupts import Interrupted, signals_as_exceptions
from testbed.processes import OwnedProcess


def _start(*command):
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    return OwnedProcess(child.pid, command[0], child)


def test_end_is_a_polite_request_first():
    process = _start("sleep", "1000")
    assert process.running
    process.end()
    assert process.exit_code == -signal.SIGTERM


def test_end_insists():
    child = subprocess.Popen(["bash", "-c", "trap '' TERM; echo ready; while :; do read -t 1000 <> <(:); done"],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)
    child.stdout.readline()
    process = OwnedProcess(child.pid, "stubborn", child)
    process.end(grace=0.2)
    child.stdout.close()
    assert process.exit_code == -signal.SIGKILL


def test_end_twice_does_no_harm():
    process = _start("true")
    assert process.wait(10)
    process.end()
    process.end()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_unwinds_once(number):
    unwound = []
    with pytest.raises(Interrupted) as interrupted:
        with signals_as_exceptions():
            try:
                os.kill(os.getpid(), number)
                signal.pause()
            finally:
                os.kill(os.getpid(), number)  # must not cut this short
                unwound.append(True)
    assert unwound and interrupted.value.exit_code == 128 + number


def test_waiting_says_what_for():
    with pytest.raises(TestbedError, match="pigs fly"):
        wait_until("pigs fly", lambda: False, 0.05)
