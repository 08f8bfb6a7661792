# SPDX-License-Identifier: Apache-2.0
"""Kills over the engine's test process (memory/testing/subject.cpp): three threads verify, rewrite and discard its pages
all the time."""

import contextlib
import json
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from testbed.paths import BUILD

MIB = 1 << 20
PAGE = 4096
RAM = 64 * MIB
KILLS_PER_SUBJECT = 100
LIMITS = (0, 30 * MIB, 36 * MIB, 40 * MIB, 44 * MIB, 48 * MIB, 56 * MIB)
# Name, and how often it may be passed before.
POINTS = (
    ("guest-registered", 1), ("guest-scanned", 1), ("guest-let-go", 1), ("agent-asked", 300), ("moved-aside-whole", 3),
    ("moved-aside", 100), ("slot-written", 4000), ("entry-replaced", 4000), ("entries-published", 100),
    ("block-published", 2), ("dropped", 40), ("moved-in", 60), ("fault-served", 1000), ("page-there", 100), ("brought-back", 200),
    ("slot-copied", 300), ("slot-moved", 300), ("tightened", 300), ("event-read", 60), ("event-applied", 60),
    ("limit-changed", 4),
)
POINTS_OF_TIER = (
    ("segment-opened", 40), ("record-put", 4000), ("record-published", 4000), ("segment-written", 40),
    ("record-served", 1000), ("record-moved", 100),
)
POINTS_OF_RECOVERY = ("recovery-replayed", "recovery-half-settled", "recovery-claimed")


class ManagerDied(Exception):
    pass


class Subject:
    def __init__(self, number):
        self._process = subprocess.Popen([BUILD / "release/memory/thermocline_subject", "-m", str(RAM // MIB)],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.command(f"map {RAM} {'huge' if number % 2 else 'small'}")
        self.command(f"fill {number} mixed")
        self.command("hammer 3")

    @property
    def pid(self):
        return self._process.pid

    def command(self, text, seconds=60):
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            raise TimeoutError(f"the subject did not answer \"{text}\" in {seconds} s: its threads wait")
        return self._process.stdout.readline().strip()

    def close(self):
        self._process.kill()
        self._process.wait()


class Manager:
    """One after the other on one subject; with a file tier, where there is a directory for it."""

    def __init__(self, subject, tier=None):
        self._subject = subject
        self._options = ["--file-tier-dir", str(tier), "--file-tier-age", "0"] if tier else []
        self._directory = tempfile.mkdtemp(prefix="thermocline-kills-", dir="/dev/shm")
        self._process = None
        self._socket = None
        self._log = open(Path(self._directory).with_suffix(".log"), "w+", encoding="utf-8")

    def spawn(self, recover, kill_at=None):
        """Returns the file that its ready line comes from."""
        ours, theirs = os.pipe()
        environment = dict(os.environ, **({"THERMOCLINE_KILL_AT": kill_at} if kill_at else {}))
        self._process = subprocess.Popen(
            [BUILD / "release/memory/manager/thermocline-manager-to-kill", "run", "--pid", str(self._subject.pid), "--state-dir",
             self._directory, "--name", "subject", "--ready-fd", str(theirs), *(["--recover"] if recover else []), *self._options],
            pass_fds=[theirs], env=environment, stderr=self._log)
        os.close(theirs)
        return os.fdopen(ours)

    def start(self, recover, kill_at=None):
        with self.spawn(recover, kill_at) as ready:
            line = ready.readline()
        if not line:
            raise ManagerDied
        answer = json.loads(line)
        if not answer["ok"]:
            raise RuntimeError(f"the manager refused: {answer['error']}\n{self.log()}")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._socket.connect(self._directory + "/manager.sock")
        except OSError as error:
            raise ManagerDied from error

    def set_limit(self, limit):
        try:
            self._socket.send(json.dumps({"id": 1, "method": "set-limit", "params": {"limit_bytes": limit}}).encode())
            if not self._socket.recv(65536):
                raise ManagerDied
        except OSError as error:
            raise ManagerDied from error

    def died(self, seconds):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.returncode is not None

    def kill(self):
        self._process.kill()
        self._process.wait()

    def must_be_killed(self):
        if self._process.wait(20) != -signal.SIGKILL:
            raise RuntimeError(f"a manager ended by itself: {self._process.returncode}\n{self.log()}")

    def log(self):
        self._log.seek(0)
        return self._log.read()[-4000:]

    def close(self):
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self._log.close()
        Path(self._log.name).unlink()
        shutil.rmtree(self._directory)


class ProcessCampaign:
    def __init__(self, options, outcome):
        self._kills = options.kills
        self._outcome = outcome
        self._random = random.Random(options.seed)
        self._tier = None

    def run(self):
        subjects = 0
        while self._outcome.kills < self._kills and self._outcome.bytes_wrong == 0:
            subjects += 1
            subject = Subject(subjects)
            # On a disk, which the checkout is.
            self._tier = BUILD if subjects % 3 else None
            manager = Manager(subject, self._tier)
            try:
                self._kill_over(subject, manager)
            finally:
                manager.close()
                subject.close()

    def _kill_over(self, subject, manager):
        until = min(self._kills, self._outcome.kills + KILLS_PER_SUBJECT)
        recover = False
        while self._outcome.kills < until:
            where = self._one_life(manager, recover)
            recover = True
            manager.must_be_killed()
            subject.command("longest")
            self._outcome.killed(where)
            while self._random.random() < 0.2 and self._outcome.kills < until:
                self._outcome.killed(self._kill_in_recovery(manager))
            # One that is left in peace until the guest has been everywhere it waited for.
            manager.start(True)
            problem = subject.command("await-more 200")
            longest = int(subject.command("longest").split()[1]) / 1000
            self._outcome.paused(longest)
            if problem != "ok":
                self._wrong(problem)
                return
            manager.set_limit(self._random.choice(LIMITS[1:]))
            time.sleep(self._random.uniform(0, 0.02))
            manager.kill()
            self._outcome.killed("at-work")
        manager.start(True)
        manager.set_limit(0)
        for answer in (subject.command("stop"), subject.command("verify")):
            if not answer.startswith("ok"):
                self._wrong(answer)

    def _wrong(self, problem):
        print(problem, flush=True)
        self._outcome.bytes_wrong += PAGE  # of a page that is wrong, all is in doubt

    def _one_life(self, manager, recover):
        """Where it was killed."""
        point = None
        if self._random.random() < 0.6:
            name, most = self._random.choice((*POINTS, *POINTS_OF_TIER) if self._tier else POINTS)
            # The first times as often as all later ones.
            point = (name, max(1, int(most ** self._random.random())))
        try:
            manager.start(recover, f"{point[0]}:{point[1]}" if point else None)
            for _ in range(12 if point else self._random.randint(1, 4)):
                manager.set_limit(self._random.choice(LIMITS))
                if manager.died(self._random.uniform(0, 0.03)):
                    return point[0]
        except ManagerDied:
            return point[0]
        if manager.died(0):
            return point[0]
        manager.kill()
        return "random"

    def _kill_in_recovery(self, manager):
        if self._random.random() < 0.5:
            point = self._random.choice(POINTS_OF_RECOVERY)
            try:
                manager.start(True, point)
            except ManagerDied:
                manager.must_be_killed()
                return point
            manager.kill()  # nothing was away, and there was nothing to settle
            return "recovered"
        with manager.spawn(True):
            time.sleep(self._random.uniform(0, 0.02))
            manager.kill()
        return "recovery-random"
