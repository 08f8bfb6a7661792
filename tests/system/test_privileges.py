# SPDX-License-Identifier: Apache-2.0
"""What the parts may do once a VM is attached: the manager next to nothing, the agent's code nothing but run."""

import os
import re
from pathlib import Path

from testbed.paths import ROOT
from testbed.process_view import mappings
from testbed.sizes import KIB, MIB

from .qemu_state import QemuState, require_unchanged
from .thermocline import Thermocline


def _status(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_the_manager_gives_up_every_privilege(thermocline, guest):
    thermocline.attached(guest)
    manager = thermocline.daemon.managers()[0]
    status = _status(manager)
    sys_nice = 1 << 23  # where its threads in QEMU run is its to say; by seccomp little else (privileges_test)
    assert all(int(status[name], 16) == sys_nice for name in ("CapEff", "CapPrm"))
    assert all(int(status[name], 16) == 0 for name in ("CapInh", "CapAmb", "CapBnd"))
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    assert "0" not in status["Uid"].split() and "0" not in status["Gid"].split()
    assert status["TracerPid"] == "0" and _status(guest.pid)["TracerPid"] == "0"


def test_the_agent_is_small_and_not_writable(thermocline, guest):
    before = {(m.start, m.end) for m in mappings(guest.pid)}
    thermocline.attached(guest)
    code = [m for m in mappings(guest.pid) if (m.start, m.end) not in before and "x" in m.permissions]
    # TCG's own code buffer is writable and executable, and was there before.
    assert code and sum(m.size for m in code) <= 16 * KIB
    assert not any("w" in m.permissions for m in code)


def test_the_store_is_for_its_owner_only(thermocline, guest):
    thermocline.attached(guest)
    directory = thermocline.domain_directory(guest)
    assert directory.stat().st_mode & 0o077 == 0
    for name in ("arena", "pagemap", "attachment.json", "manager.sock"):
        assert (directory / name).stat().st_mode & 0o077 == 0, name
    for path in (thermocline.daemon.state_dir, thermocline.daemon.runtime_dir):
        assert os.stat(path).st_mode & 0o077 == 0


def test_the_unit_file_leaves_enough_capabilities(testbed, guest):
    unit = (ROOT / "packaging/thermoclined.service").read_text()
    wanted = re.search("^CapabilityBoundingSet=(.*)$", unit, re.MULTILINE)[1].split()
    bounding = ",".join(["-all", *("+" + name.removeprefix("CAP_").lower() for name in wanted)])
    guest.fill(128 * MIB, seed=111)
    before = QemuState.of(guest)
    with Thermocline(testbed, start=False) as thermocline:
        thermocline.daemon.prefix = ["setpriv", "--no-new-privs", "--bounding-set", bounding, "--inh-caps", "-all"]
        thermocline.start()
        domain = thermocline.attached(guest, limit=112 * MIB)
        guest.verify()
        domain.detach()
        require_unchanged(guest, before)
        assert all(ok for _name, ok, _detail, _fix in thermocline.client.manager("Doctor")[0])
    guest.verify()
