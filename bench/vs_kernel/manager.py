# SPDX-License-Identifier: Apache-2.0
"""thermocline-manager, started as the daemon starts it; docs/manager-protocol.md."""

import json
import os
import shutil
import socket
import subprocess

from testbed.errors import TestbedError
from testbed.processes import OwnedProcess

_MOST_PACKET = 64 * 1024


class Manager:
    """Context manager. It ends by itself when the process that it manages does, so that goes first."""

    def __init__(self, program, pid, state_directory, cgroup, file_tier=None):
        self._program, self._vm, self._directory, self._cgroup = program, pid, state_directory, cgroup
        self._file_tier = ["--file-tier-dir", str(file_tier)] if file_tier else []
        self._socket = None
        self._requests = 0

    def __enter__(self):
        ready, theirs = os.pipe()
        self._log = open(self._directory / "log", "wb")
        popen = subprocess.Popen(
            [str(self._program), "run", "--pid", str(self._vm), "--state-dir", str(self._directory), "--name", "bench",
             "--ready-fd", str(theirs), *self._file_tier],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, pass_fds=(theirs,),
            start_new_session=True, preexec_fn=self._cgroup.enter)
        os.close(theirs)
        self.process = OwnedProcess(popen.pid, "thermocline-manager", popen)
        with open(ready, encoding="utf-8") as lines:
            answer = json.loads(lines.readline() or '{"ok": false, "error": {"message": "it said nothing"}}')
        if not answer["ok"]:
            self.__exit__()
            raise TestbedError(f"thermocline-manager does not attach: {answer['error']['message']}")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(30)
        self._socket.connect(str(self._directory / "manager.sock"))
        return self

    def __exit__(self, *exception):
        if self._socket:
            self._socket.close()
        if not self.process.wait(10):
            self.process.kill()
        self._log.close()
        shutil.rmtree(self._directory)  # the store is memory, too

    @property
    def pid(self):
        return self.process.pid

    def call(self, method, **params):
        self._requests += 1
        request = {"id": self._requests, "method": method}
        if params:
            request["params"] = params
        try:
            self._socket.send(json.dumps(request).encode())
            answer = json.loads(self._socket.recv(_MOST_PACKET) or b"{}")
        except OSError as error:
            raise TestbedError(f"thermocline-manager does not answer: {error}") from None
        if "result" not in answer:
            raise TestbedError(f"thermocline-manager, {method}: {answer.get('error', {}).get('message', 'has ended')}")
        return answer["result"]

    def status(self):
        return self.call("status")

    def set_limit(self, limit):
        return self.call("set-limit", limit_bytes=limit)
