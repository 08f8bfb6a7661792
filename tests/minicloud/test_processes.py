# SPDX-License-Identifier: Apache-2.0
import json
import os
import signal

import pytest

from minicloud.cloud import Cloud
from minicloud.errors import CloudError
from minicloud.processes import Processes
from minicloud.state import State
from testbed.processes import OwnedProcess


@pytest.fixture
def state(tmp_path):
    """A cloud's folder; what is started in it is ended."""
    state = State(tmp_path / "cloud")
    state.make()
    yield state
    for name in Processes(state).names():
        Processes(state).stop(name, 1.0)


def _start(state, *command):
    Processes(state).start("it", list(command), {"PATH": os.environ["PATH"]})
    pid = Processes(state).pid("it")
    return pid, OwnedProcess(pid, command[0])


def test_another_command_finds_and_ends_it(state):
    pid, process = _start(state, "sleep", "1000")
    assert Processes(state).pid("it") == pid
    Processes(state).stop("it")
    assert process.wait(5)
    assert Processes(state).names() == [] and Processes(state).pid("it") is None


def test_a_process_that_got_the_same_pid_later_is_not_ours(state):
    pid, process = _start(state, "sleep", "1000")
    file = state.run / "it.json"
    known = json.loads(file.read_text())
    file.write_text(json.dumps({**known, "start": known["start"] - 1}))
    assert Processes(state).pid("it") is None
    Processes(state).stop("it")
    assert process.running
    os.kill(pid, signal.SIGKILL)


def test_what_it_started_ends_with_it(state):
    _start(state, "sh", "-c", "sleep 1000 & echo $! >\"$0\"; exec sleep 1001", str(state.root / "child"))
    Processes(state).wait_for("it", "its child", lambda: (state.root / "child").exists() and (state.root / "child").read_text().strip(), 5)
    child = OwnedProcess(int((state.root / "child").read_text()), "child")
    Processes(state).stop("it")
    assert child.wait(5)


def test_one_that_ends_while_it_is_waited_for_is_an_error_with_its_last_words(state):
    Processes(state).start("it", ["sh", "-c", "echo cannot read the configuration; exit 3"], {"PATH": os.environ["PATH"]})
    with pytest.raises(CloudError, match="(?s)it ended while it started: .*cannot read the configuration"):
        Processes(state).wait_for("it", "an answer", lambda: False, 10)


def test_a_service_that_does_not_run_cannot_be_frozen(state):
    with pytest.raises(CloudError, match="it does not run"):
        Processes(state).signal("it", signal.SIGSTOP)


def test_down_ends_what_a_killed_run_left(state):
    Processes(state).start("memcached", ["sleep", "1000"], {"PATH": os.environ["PATH"]})
    left = OwnedProcess(Processes(state).pid("memcached"), "memcached")
    Cloud(state).down(remove=True)
    assert left.wait(5)
    assert not state.root.exists()
