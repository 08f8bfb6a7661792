# SPDX-License-Identifier: Apache-2.0
"""SIGINT, SIGTERM and SIGHUP become an exception, so that every exit path is the same one: unwinding.

Two places bear no exception: a finalizer, which Python lets none out of, and PyGObject's Python code, which the
interpreter may be inside of by way of C that crashes on one. There the signal is put off, by an interval timer and not by
a thread: a handler may have interrupted whoever holds a lock that a thread's start needs."""

import contextlib
import signal
import sys

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PUT_OFF_SECONDS = 0.002


class Interrupted(BaseException):
    def __init__(self, number):
        super().__init__(signal.Signals(number).name)
        self.number = number
        self.exit_code = 128 + number


def _raise(number, frame):
    shield()  # one is enough: the next must not cut the cleaning up short
    if _inside_bindings(frame):
        _put_off(number)
    else:
        raise Interrupted(number)


def _inside_bindings(frame):
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] == "gi":
            return True
        frame = frame.f_back
    return False


def _put_off(number):
    signal.signal(signal.SIGALRM, lambda _alarm, frame: _raise(number, frame))
    signal.setitimer(signal.ITIMER_REAL, _PUT_OFF_SECONDS)


def shield():
    """From here on, such a signal is ignored: the cleaning up has begun."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0)


@contextlib.contextmanager
def signals_as_exceptions():
    """SIGALRM and ITIMER_REAL belong to this, too. Main thread only."""
    before = {number: signal.signal(number, _raise) for number in _SIGNALS}
    before[signal.SIGALRM] = signal.getsignal(signal.SIGALRM)
    hook_before = sys.unraisablehook

    def hook(unraisable):
        if not isinstance(unraisable.exc_value, Interrupted):
            return hook_before(unraisable)
        _put_off(unraisable.exc_value.number)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = hook_before
        for number, handler in before.items():
            signal.signal(number, handler)
