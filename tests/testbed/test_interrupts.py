# SPDX-License-Identifier: Apache-2.0
import signal
import time

import pytest

from .interrupts import Interrupted, signals_as_exceptions


class _InterruptedWhenItGoes:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)


def test_a_signal_becomes_an_exception():
    with pytest.raises(Interrupted) as interrupted, signals_as_exceptions():
        signal.raise_signal(signal.SIGINT)
    assert interrupted.value.exit_code == 128 + signal.SIGINT


def _wait_for_the_exception():
    while True:
        pass  # not signal.pause(), which could begin just after the signal


def test_a_signal_that_comes_while_a_finalizer_runs_is_not_lost():
    with pytest.raises(Interrupted) as interrupted, signals_as_exceptions():
        _InterruptedWhenItGoes()
        _wait_for_the_exception()
    assert interrupted.value.exit_code == 128 + signal.SIGTERM


def test_a_signal_that_comes_inside_pygobject_is_raised_outside_of_it():
    bindings = {"__name__": "gi.overrides.Some", "signal": signal, "time": time, "left": []}
    exec("def call():\n"
         "    signal.raise_signal(signal.SIGTERM)\n"
         "    time.sleep(0.02)\n"  # several times as long as the signal is put off
         "    left.append(True)\n", bindings)
    with pytest.raises(Interrupted) as interrupted, signals_as_exceptions():
        bindings["call"]()
        _wait_for_the_exception()
    assert interrupted.value.exit_code == 128 + signal.SIGTERM
    assert bindings["left"]
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
