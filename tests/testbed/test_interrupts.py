# SPDX-License-Identifier: Apache-2.0
import signal

import pytest

from .interrupts import Interrupted, signals_as_exceptions


class _InterruptedWhenItGoes:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)


def test_a_signal_becomes_an_exception():
    with pytest.raises(Interrupted) as interrupted, signals_as_exceptions():
        signal.raise_signal(signal.SIGINT)
    assert interrupted.value.exit_code == 128 + signal.SIGINT


def test_a_signal_that_comes_while_a_finalizer_runs_is_not_lost():
    with pytest.raises(Interrupted) as interrupted, signals_as_exceptions():
        _InterruptedWhenItGoes()
        signal.pause()
    assert interrupted.value.exit_code == 128 + signal.SIGTERM
