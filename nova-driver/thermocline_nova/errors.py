# SPDX-License-Identifier: Apache-2.0
"""What can go wrong between us and the daemon, and in what people write."""


class DaemonError(Exception):
    """The daemon cannot be asked: no bus, no daemon, no answer in time, or an answer that makes no sense. The message says which."""


class DaemonRefusal(DaemonError):
    """The daemon answered with an error. `name` is without the project's prefix, as in docs/dbus.md: "NotSupported"."""

    def __init__(self, name, message):
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message


class BadSetting(ValueError):
    """A flavor's extra spec or an image's property that is wrong; the message says what it may be."""


class MoveRefused(Exception):
    """Nova does not move the server, or could not be asked; the message says why."""
