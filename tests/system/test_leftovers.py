# SPDX-License-Identifier: Apache-2.0
"""After a life under a limit, and after the demo, the host is as it was: no file, mount, process or domain is left."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import libvirt
import pytest

from testbed.host_services import CONNECT_URI
from testbed.paths import ROOT
from testbed.sizes import MIB

from .thermocline import Thermocline

_DEMO = [sys.executable, "-m", "demo", "--memory", "256MiB"]


def _host_state():
    sysctls = {path: path.read_text() for path in (Path("/proc/sys/vm/unprivileged_userfaultfd"),
                                                   Path("/proc/sys/vm/overcommit_memory"),
                                                   Path("/proc/sys/vm/nr_hugepages"))}
    # Unit tests that somebody runs meanwhile have names of their own.
    ours = sorted(name for folder in ("/dev/shm", "/tmp", "/run", "/var/tmp", "/var/log/libvirt/qemu")
                  if os.path.isdir(folder) for name in os.listdir(folder) if "thermocline" in name and not name.startswith("thermocline-test-"))
    processes = sorted(entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit() and _ours(entry))
    domains = sorted(domain.name() for domain in libvirt.open(CONNECT_URI).listAllDomains())
    mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if "/thermocline-test-" not in line]
    return {"mounts": mounts, "sysctls": sysctls, "files": ours,
            "processes": processes, "domains": domains}


def _ours(entry):
    try:
        return b"thermocline" in (entry / "cmdline").read_bytes().split(b"\0")[0]
    except OSError:
        return False


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
