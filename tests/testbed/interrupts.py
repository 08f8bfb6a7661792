# SPDX-License-Identifier: Apache-2.0
"""SIGINT, SIGTERM and SIGHUP become an exception, so that every exit path is the same one: unwinding."""

import contextlib
import signal

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    def __init__(self, number):
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


def _raise(number, _frame):
    shield()  # one is enough: the next must not cut the cleaning up short
    raise Interrupted(number)


def shield():
    """From here on, such a signal is ignored: the cleaning up has begun."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def signals_as_exceptions():
    before = {number: signal.signal(number, _raise) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
