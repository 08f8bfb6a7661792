# SPDX-License-Identifier: Apache-2.0
"""Another host on this machine, to migrate to: a libvirtd in a mount namespace where libvirt's folders are its own."""

import contextlib
import subprocess
from pathlib import Path

import libvirt

from .deadline import wait_until
from .errors import TestbedError
from .host_services import limit_files
from .processes import OwnedProcess

_FOLDERS = ("/run/libvirt", "/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt", "/etc/libvirt")
_SCRIPT = """set -eu
root=$1; shift
for folder; do
    mkdir -p "$root$folder" "$folder"
    cp -a "$folder/." "$root$folder/" 2>/dev/null || true
    mount --bind "$root$folder" "$folder"
done
rm -rf /run/libvirt/*
mkdir -p /run/libvirt/common
touch "$root/ready"
exec sleep infinity
"""
# Not this machine's: libvirt does not migrate to the host that the domain is on.
_UUID = "5ec0d057-0000-4000-8000-7468656f7468"


class SecondHost:
    """Context manager. `uri` is its libvirtd, from here. QEMU runs as root there: so post-copy works whatever
    vm.unprivileged_userfaultfd is."""

    def __init__(self, directory):
        self._root = directory
        self._processes = []

    def __enter__(self):
        self._root.mkdir()
        self._root.chmod(0o711)
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if (self._root / "libvirtd.pid").exists() and self._answers():
            for domain in libvirt.open(self.uri).listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
                with contextlib.suppress(libvirt.libvirtError):  # it has ended meanwhile
                    domain.destroy()
        for process in reversed(self._processes):
            process.end()

    @property
    def uri(self):
        return f"qemu+unix:///system?socket={self._root}/run/libvirt/libvirt-sock"

    @property
    def prefix(self):
        """Of a command line, to run it there."""
        return ["nsenter", f"--mount=/proc/{self._processes[0].pid}/ns/mnt", "--"]

    def pid_file(self, guest):
        return self._root / f"run/libvirt/qemu/{guest.name}.pid"

    def domain(self, guest):
        return libvirt.open(self.uri).lookupByUUIDString(guest.uuid)

    def _start(self):
        child = subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sh", "-c", _SCRIPT, "second-host",
                                  str(self._root), *_FOLDERS], stdin=subprocess.DEVNULL, start_new_session=True)
        self._processes.append(OwnedProcess(child.pid, "the second host's namespace", child))
        wait_until("the second host's folders", (self._root / "ready").exists)
        etc = self._root / "etc/libvirt"
        with open(etc / "libvirtd.conf", "a", encoding="ascii") as file:
            file.write(f'\nhost_uuid = "{_UUID}"\nauth_unix_rw = "none"\n')
        with open(etc / "qemu.conf", "a", encoding="ascii") as file:
            file.write('\nuser = "root"\ngroup = "root"\ndynamic_ownership = 0\nremember_owner = 0\n')
        for name in ("virtlogd", "libvirtd"):
            pid_file = self._root / f"{name}.pid"
            started = subprocess.run([*self.prefix, name, "-d", "-p", str(pid_file)], stdin=subprocess.DEVNULL,
                                     capture_output=True, text=True, start_new_session=True, preexec_fn=limit_files,
                                     timeout=60, check=False)
            if started.returncode:
                raise TestbedError(f"the second host: {name}: {started.stderr}")
            self._processes.append(OwnedProcess(int(pid_file.read_text()), f"{name} of the second host"))
        wait_until("the second host's libvirtd answers", self._answers)

    def _answers(self):
        try:
            libvirt.open(self.uri).close()
        except libvirt.libvirtError:
            return False
        return True
