# SPDX-License-Identifier: Apache-2.0
"""A VM under a limit is migrated to another libvirtd with a thermoclined of its own: it is attached there as it was here."""

import dataclasses
import subprocess

import libvirt
import pytest

from testbed.deadline import wait_until
from testbed.errors import TestbedError
from testbed.host_services import CONNECT_URI
from testbed.process_view import mappings
from testbed.second_host import SecondHost
from testbed.sizes import MIB
from testbed.thermocline_client import ThermoclineError
from testbed.virsh import virsh

from .thermocline import Thermocline

_FILL = 160 * MIB
_LIMIT = 128 * MIB


@pytest.fixture(scope="module")
def second_host(testbed):
    with SecondHost(testbed.run_dir / "second") as host:
        yield host


@pytest.fixture
def there(testbed, second_host):
    """The other host's thermoclined."""
    with Thermocline(testbed, start=False) as thermocline:
        thermocline.daemon.prefix = second_host.prefix
        thermocline.start()
        yield thermocline


class Migration:
    """virsh migrate, under way. Sockets and console are others over there: it is the same machine."""

    def __init__(self, testbed, host, guest, *options):
        self._host = host
        self._guest = guest
        here, self._directory = guest.spec.directory, testbed.run_dir / f"{guest.name}-there"
        self._directory.mkdir()
        self._directory.chmod(0o777)
        xml = self._directory / "domain.xml"
        xml.write_text(virsh("dumpxml", "--migratable", guest.name).replace(f"{here}/", f"{self._directory}/"))
        self._process = subprocess.Popen(
            ["virsh", "--quiet", "--connect", CONNECT_URI, "migrate", "--live", guest.name, "--desturi", host.uri,
             "--migrateuri", f"unix://{self._directory}/migration", "--xml", str(xml), *options],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def wait_for(self, domain, what, condition):
        """As domain.wait_for, while it is under way."""
        try:
            return domain.wait_for(what, condition, seconds=30.0)
        except TestbedError as error:
            if self._process.poll() is None:
                raise
            raise TestbedError(f"the migration is over: {self.end()}: {error}") from None

    def end(self):
        """Waits for it: (exit code, what it said)."""
        said, _ = self._process.communicate(timeout=120.0)
        return self._process.returncode, said

    def follow(self):
        """The guest is the one over there from now on."""
        self._guest.spec = dataclasses.replace(self._guest.spec, directory=self._directory)
        self._guest.find_again(self._host.pid_file(self._guest))


@pytest.fixture
def limited(thermocline, there, own_guest):
    """`there` before the guest: its thermoclined ends after the guest that it has taken over."""
    guest = own_guest("migrates").start()
    guest.fill(_FILL, seed=161)
    domain = thermocline.attached(guest, limit=_LIMIT)
    assert domain.figures()["ColdBytes"] > 16 * MIB
    return guest, domain


def _arrived(there, guest):
    domain = there.domain(guest)
    figures = domain.wait_for("the VM to be attached over there", lambda now: now["State"] == "attached")
    assert (figures["Pid"], figures["LimitBytes"], figures["StateNote"]) == (guest.pid, _LIMIT, "")
    guest.verify()
    domain.wait_for_limit()
    guest.verify()
    domain.detach()
    guest.verify()


def _forgotten(thermocline, guest, domain, process):
    assert process.wait(30.0)
    domain.wait_for_gone()
    assert not thermocline.daemon.managers()
    assert not thermocline.domain_directory(guest).exists()


def test_live_migration(testbed, thermocline, there, second_host, limited):
    guest, domain = limited
    process, boot = guest.process, guest.status()["boot_id"]
    # The guest is idle: QEMU 7.2 under TCG loses writes of a busy one to its dirty bitmap, attached or not.
    migration = Migration(testbed, second_host, guest, "--bandwidth", "100")
    begun = migration.wait_for(domain, "the manager to know", lambda now: now["Activity"] == "copied-out")
    # What is away comes back ahead of the reader, and nothing is taken meanwhile.
    back = migration.wait_for(domain, "all of it to be back", lambda now: now["ColdBytes"] + now["StagedBytes"] == 0)
    # (The block that was being evicted when the manager was told may still go.)
    assert back["EvictedPages"] <= begun["EvictedPages"] + 512
    assert "is being read" in back["LimitNote"] and not back["LimitMet"]
    code, said = migration.end()
    assert code == 0, said
    migration.follow()
    assert guest.status()["boot_id"] == boot
    _forgotten(thermocline, guest, domain, process)
    _arrived(there, guest)


def test_cancelled_migration(testbed, thermocline, there, second_host, limited):
    guest, domain = limited
    guest.spin(threads=1, write_percent=30)
    migration = Migration(testbed, second_host, guest, "--bandwidth", "2")
    migration.wait_for(domain, "the manager to know", lambda now: now["Activity"] == "copied-out")
    migration.wait_for(domain, "all of it to be back", lambda now: now["ColdBytes"] == 0)
    virsh("domjobabort", guest.name)
    code, said = migration.end()
    assert code != 0 and "cancel" in said.lower(), said
    figures = domain.wait_for("things to be as before", lambda now: now["Activity"] == "running" and now["LimitMet"]
                              and now["UsedBytes"] <= _LIMIT)
    assert (figures["State"], figures["Pid"], figures["LimitNote"]) == ("attached", guest.pid, "")
    guest.stop_spinning()
    guest.verify()
    assert not there.daemon.managers()
    domain.detach()
    guest.verify()


def _watched_by_qemu(pid):
    """Is memory of the process registered with a userfaultfd? REQUIRES: it is not attached."""
    return any("um" in mapping.flags for mapping in mappings(pid))


def test_post_copy_is_left_alone(testbed, thermocline, there, second_host, limited):
    guest, domain = limited
    process = guest.process
    migration = Migration(testbed, second_host, guest, "--postcopy", "--bandwidth", "20", "--postcopy-bandwidth", "20")
    migration.wait_for(domain, "the manager to know", lambda now: now["Activity"] == "copied-out")
    virsh("migrate-postcopy", guest.name)
    arriving = there.domain(guest)
    wait_until("the guest runs over there", lambda: second_host.domain(guest).state()
               == [libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_POSTCOPY])
    assert _watched_by_qemu(int(second_host.pid_file(guest).read_text()))
    with pytest.raises(ThermoclineError) as refused:
        arriving.attach()
    assert refused.value.name == "Busy" and "still arriving" in refused.value.message
    assert arriving.figures()["State"] == "detached"
    code, said = migration.end()
    assert code == 0, said
    migration.follow()
    _forgotten(thermocline, guest, domain, process)
    _arrived(there, guest)
