# SPDX-License-Identifier: Apache-2.0
"""A D-Bus connection each of whose waits has an end. In plain Python sockets: under eventlet, which Nova puts beneath them,
other greenthreads go on meanwhile; without it, it is an ordinary blocking client."""

import socket
import time

from jeepney import HeaderFields, MessageType, Parser, new_method_call
from jeepney.auth import BEGIN, AuthenticationError, Authenticator
from jeepney.bus import get_bus
from jeepney.bus_messages import message_bus

from .errors import DaemonError, DaemonRefusal

_ERROR_PREFIX = "org.thermocline1.Error."
# The bus's own ways to say that nobody has the daemon's name.
_ABSENT = ("org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner",
           "org.freedesktop.DBus.Error.NoReply")


class BusConnection:
    """Context manager. `seconds`: for all that is done with it. Not thread-safe. DaemonError for whatever fails."""

    def __init__(self, address, seconds):
        self._address = address
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._parser = Parser()
        self._serial = 0
        self._signals = 0
        self._socket = None

    def __enter__(self):
        try:
            path = get_bus(self._address)
            self._socket = socket.socket(socket.AF_UNIX)
            self._arm()
            self._socket.connect(path)
            self._log_in()
        except DaemonError:
            self.__exit__()
            raise
        except (OSError, ValueError, RuntimeError, StopIteration, AuthenticationError) as error:
            self.__exit__()
            raise DaemonError(f"the message bus {self._address} cannot be used: {error or type(error).__name__}") from None
        return self

    def __exit__(self, *_):
        if self._socket is not None:
            self._socket.close()

    def call(self, address, method, signature=None, arguments=()):
        """The reply's body, a tuple. DaemonRefusal where the answer is one of the daemon's errors."""
        return self._send(new_method_call(address, method, signature, arguments), f"{address.interface}.{method}")

    def watch(self, rule):
        """From here on signals that match the rule are kept for wait_for_signal()."""
        self._send(message_bus.AddMatch(rule), "AddMatch")

    def wait_for_signal(self, what):
        """Until one that is watched has come since the last call; it may have come in already. `what` is waited for, in the words of
        the error that says that it did not come in time."""
        if not self._signals:
            try:
                while not self._signals:
                    self._count(self._next_message(what))
            except TimeoutError:
                raise DaemonError(f"{what} did not happen within {self._seconds:g} s") from None
            except OSError as error:
                raise DaemonError(f"the message bus {self._address} is gone: {error}") from None
        self._signals = 0

    def _log_in(self):
        authenticator = Authenticator()
        for data in authenticator:
            self._socket.sendall(data)
            self._arm()
            authenticator.feed(self._receive())
        self._socket.sendall(BEGIN)
        self._send(message_bus.Hello(), "Hello")

    def _send(self, message, what):
        self._serial += 1
        try:
            self._socket.sendall(message.serialise(serial=self._serial))
            reply = self._reply_to(self._serial, what)
        except TimeoutError:
            raise DaemonError(f"no answer to {what} within {self._seconds:g} s") from None
        except OSError as error:
            raise DaemonError(f"the message bus {self._address} is gone: {error}") from None
        if reply.header.message_type is MessageType.error:
            raise _refusal(reply)
        return reply.body

    def _reply_to(self, serial, what):
        while True:
            message = self._next_message(what)
            if message.header.fields.get(HeaderFields.reply_serial) == serial:
                return message
            self._count(message)

    def _next_message(self, what):
        while True:
            try:
                message = self._parser.get_next_message()
            except Exception as error:  # whatever a broken message does to the parser
                raise DaemonError(f"what came instead of {what} is no D-Bus message: {error!r}") from None
            if message is not None:
                return message
            self._arm()
            self._parser.add_data(self._receive())

    def _count(self, message):
        # The bus's own NameAcquired comes unasked.
        fields = message.header.fields
        if message.header.message_type is MessageType.signal and fields.get(HeaderFields.interface) != "org.freedesktop.DBus":
            self._signals += 1

    def _receive(self):
        data = self._socket.recv(1 << 16)
        if not data:
            raise ConnectionResetError("it closed the connection")
        return data

    def _arm(self):
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"no answer within {self._seconds:g} s")
        self._socket.settimeout(left)


def _refusal(reply):
    name = reply.header.fields.get(HeaderFields.error_name, "")
    text = reply.body[0] if reply.body and isinstance(reply.body[0], str) else ""
    if name in _ABSENT:
        return DaemonError(f"thermoclined does not run: {text}")
    return DaemonRefusal(name.removeprefix(_ERROR_PREFIX), text)
