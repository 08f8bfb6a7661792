# SPDX-License-Identifier: Apache-2.0
import fcntl

import pytest

from testbed import machine_lock as module


def test_another_run_is_waited_for_and_said_so(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    monkeypatch.setattr(module, "_PATH", str(path))
    said = []
    with module.machine_lock(lambda: said.append("waiting")):
        assert not said
        with open(path, encoding="ascii") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with open(path, encoding="ascii") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

        def waiting():
            said.append("waiting")
            fcntl.flock(other, fcntl.LOCK_UN)

        with module.machine_lock(waiting):
            assert said == ["waiting"]
