# SPDX-License-Identifier: Apache-2.0
"""SIGINT, SIGTERM and SIGHUP become an exception, so that every exit path is the same one: unwinding."""

import contextlib
import os
import signal
import sys
import threading

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    def __init__(self, number):
        super().__init__(signal.Signals(number).name)
        self.number = number
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
    hook_before = sys.unraisablehook

    def hook(unraisable):
        if not isinstance(unraisable.exc_value, Interrupted):
            return hook_before(unraisable)
        # The signal came while a finalizer ran, which Python lets no exception out of: once more, when that is over.
        number = unraisable.exc_value.number
        signal.signal(number, _raise)
        threading.Timer(0.01, os.kill, (os.getpid(), number)).start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = hook_before
        for number, handler in before.items():
            signal.signal(number, handler)
