# SPDX-License-Identifier: Apache-2.0
"""After a life under a limit, and after the demo, the host is as it was: no file, mount, process or domain is left."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import libvirt
import pytest

from testbed.abandoned import clear_abandoned_runs
from testbed.host_services import CONNECT_URI
from testbed.paths import ROOT
from testbed.run_dir import abandoned_run_directories
from testbed.sizes import MIB

from .thermocline import Thermocline

_DEMO = [sys.executable, "-m", "demo", "--memory", "256MiB"]


def _host_state():
    """What of ours is on the host, without what belongs to other runs that are alive (a demo on another terminal)."""
    sysctls = {path: path.read_text() for path in (Path("/proc/sys/vm/unprivileged_userfaultfd"),
                                                   Path("/proc/sys/vm/overcommit_memory"),
                                                   Path("/proc/sys/vm/nr_hugepages"))}
    folders = ("/dev/shm", "/tmp", "/run", "/var/tmp", "/var/log/libvirt/qemu")
    files = {f"{folder}/{name}" for folder in folders if os.path.isdir(folder) for name in os.listdir(folder)}
    mounts = set(Path("/proc/self/mounts").read_text().splitlines())
    domains = {domain.name() for domain in libvirt.open(CONNECT_URI).listAllDomains()}
    return {"sysctls": sysctls, "files": _ours(files), "mounts": _ours(mounts), "domains": _ours(domains),
            "processes": _ours(_daemons())}


def _ours(texts):
    return sorted(text for text in texts if "thermocline" in text and not _of_another_run(text))


def _of_another_run(text):
    if re.search("thermocline-(test|rig)-", text):
        return True  # a unit test's
    directory = re.search("/dev/shm/thermocline-run-[^/ ]+", text)
    if directory:
        return Path(directory[0]) not in abandoned_run_directories()
    runner = re.search(r"thermocline-[a-z0-9-]+?-(\d+)-\d+", text)
    return bool(runner) and int(runner[1]) != os.getpid() and os.path.exists(f"/proc/{runner[1]}")


def _daemons():
    found = set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes().decode(errors="replace") if entry.name.isdigit() else ""
            if os.path.basename(command.split("\0")[0]) in ("thermoclined", "thermocline-manager"):
                found.add(f"{entry.name} {command}".replace("\0", " "))
    return found


def test_nothing_is_left_of_a_managed_guest(testbed, own_guest):
    guest = own_guest("traces").start()
    guest.fill(96 * MIB)
    before = _host_state()
    with Thermocline(testbed) as thermocline:
        thermocline.attached(guest, limit=104 * MIB)
        guest.verify()
        thermocline.domain(guest).detach()
        assert not thermocline.domain_directory(guest).exists()
        assert not thermocline.daemon.managers()
    assert _host_state() == before
    guest.verify()


def test_demo_holds_and_leaves_nothing(testbed):
    before = _host_state()
    result = subprocess.run([*_DEMO, "--json"], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                            timeout=240, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    answer = json.loads(result.stdout.splitlines()[-1])
    assert answer["guest_ok"] is True and answer["memory_bytes"] == 256 * MIB
    assert 0 < answer["resident_after_bytes"] < answer["resident_before_bytes"]
    assert answer["store_bytes"] > 0 and 0 < answer["saved_ratio"] < 1 and answer["faults"] > 0
    assert answer["attach_pause_us"] > 0 and 0 <= answer["stall_ratio"] <= 1
    assert _host_state() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["booting", "hard limit"])
def test_demo_interrupted_leaves_nothing(testbed, number, moment):
    before = _host_state()
    child = subprocess.Popen(_DEMO, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True, start_new_session=True)
    said = []
    with child.stdout:
        for line in child.stdout:
            said.append(line)
            if moment in line and child.poll() is None and not any("interrupted" in old for old in said):
                child.send_signal(number)
                moment = "\0"  # once
    assert child.wait(60) == 128 + number, "".join(said)
    assert _host_state() == before


def test_what_a_killed_demo_left_is_cleared_by_the_next_run(testbed):
    before = _host_state()
    child = subprocess.Popen(_DEMO, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                             start_new_session=True)
    with child.stdout:
        assert any("hard limit" in line for line in child.stdout)
        child.kill()
    child.wait(10)
    assert _host_state() != before
    assert len(clear_abandoned_runs()) == 1
    assert _host_state() == before
