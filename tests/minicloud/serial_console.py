# SPDX-License-Identifier: Apache-2.0
"""Talks to guestmem in a Nova server, over the serial console that libvirt gives every server."""

import json
import os
import select
import subprocess
import tty
import xml.etree.ElementTree as ElementTree

from testbed.deadline import Deadline
from testbed.errors import TestbedError
from testbed.guest_channel import GuestChannel

from .errors import CloudError
from .host import FIRST, enter


class SerialConsole(GuestChannel):
    """One command and answer at a time. REQUIRES: guestmem has said that it is ready (Servers.console())."""

    def __init__(self, processes, server, host=FIRST):
        xml = subprocess.run(enter(processes, "virsh", "dumpxml", server, host=host), capture_output=True, text=True, timeout=30, check=True).stdout
        source = ElementTree.fromstring(xml).find("devices/console/source")
        if source is None or not source.get("path"):
            raise CloudError(f"server {server} has no serial console")
        self._terminal = os.open(source.get("path"), os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        tty.setraw(self._terminal)
        self._pending = b""

    def close(self):
        """Leaves the terminal to others."""
        os.close(self._terminal)

    def fileno(self):
        """For select()."""
        return self._terminal

    def send(self, command):
        """Sends without waiting for the answer."""
        os.write(self._terminal, command.encode() + b"\n")

    def receive(self, seconds, what="a line"):
        """The next JSON object; the kernel may write to the console, too."""
        deadline = Deadline(seconds)
        while True:
            while b"\n" in self._pending:
                line, self._pending = self._pending.split(b"\n", 1)
                if line.startswith(b"{"):
                    return json.loads(line)
            if deadline.over:
                raise TestbedError(f"guest: no answer within {seconds:.0f} s: {what}")
            if select.select([self._terminal], [], [], deadline.remaining)[0]:
                self._pending += os.read(self._terminal, 65536)
