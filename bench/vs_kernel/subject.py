# SPDX-License-Identifier: Apache-2.0
"""A subject (bench/subject/): a process with memory like a VM's that runs workloads on it and answers in JSON."""

import json
import os
import select
import signal
import subprocess

from testbed.deadline import Deadline
from testbed.errors import TestbedError
from testbed.processes import OwnedProcess
from testbed.sizes import MIB

PROGRAMS = {"process": "memory_subject", "kvm": "kvm_subject"}


class SubjectError(TestbedError):
    """The subject cannot go on: it was killed, or refused a command."""


class OutOfMemory(SubjectError):
    """The kernel killed the subject for want of memory in its cgroup."""


class Subject:
    """Context manager: killed on the way out."""

    def __init__(self, program, working_set, cgroup, small_pages=False):
        # "-m" is how a manager learns how large the memory to look for is.
        command = [str(program), *(["--small-pages"] if small_pages else []), "-m", str(working_set // MIB)]
        self._cgroup = cgroup
        self._popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                       start_new_session=True, preexec_fn=cgroup.enter)
        self.process = OwnedProcess(self._popen.pid, program.name, self._popen)
        self.pid = self._popen.pid
        self._buffered = b""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.kill()
        for pipe in (self._popen.stdin, self._popen.stdout, self._popen.stderr):
            pipe.close()

    def command(self, text, seconds=120.0, tick=None):
        """Sends a command and returns its answer. `tick` is called every 50 ms until it is there."""
        self.send(text)
        deadline = Deadline(seconds)
        while True:
            answer = self.answer_within(0.05)
            if answer is not None:
                return answer
            if tick:
                tick()
            if deadline.over:
                raise SubjectError(f"no answer to '{text}' within {seconds:.0f} s")

    def send(self, text):
        try:
            os.write(self._popen.stdin.fileno(), text.encode() + b"\n")
        except BrokenPipeError:
            raise self._ended() from None

    def answer_within(self, seconds):
        """None if there is none yet."""
        output = self._popen.stdout.fileno()
        while b"\n" not in self._buffered:
            if not select.select([output], [], [], seconds)[0]:
                return None
            part = os.read(output, 1 << 20)
            if not part:
                raise self._ended()
            self._buffered += part
        line, self._buffered = self._buffered.split(b"\n", 1)
        answer = json.loads(line)
        if "error" in answer:
            raise SubjectError(answer["error"])
        return answer

    def _ended(self):
        self.process.wait(5)
        code = self.process.exit_code
        if self._cgroup.oom_kills:
            return OutOfMemory("killed by the kernel for want of memory in its cgroup (OOM)")
        if code == -signal.SIGKILL:
            return SubjectError("killed")
        said = self._popen.stderr.read().decode(errors="replace").strip()
        return SubjectError(said or f"ended with code {code}")


def cpu_seconds(pid):
    """What a process has used so far, in user and system mode."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
