# SPDX-License-Identifier: Apache-2.0
"""A libvirtd of the cloud's own: in a mount namespace where libvirt's folders are this cloud's. So the machine's libvirtd
and the domains of other tests are neither seen nor touched, and what Nova defines is not written to /etc."""

# What libvirtd, virtlogd and libvirt's QEMU driver write; /etc/libvirt starts as a copy.
_FOLDERS = ("/run/libvirt", "/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt", "/etc/libvirt")
_SCRIPT = """set -eu
state=$1; shift
for folder; do
    own=$state/host$folder
    if [ ! -d "$own" ]; then
        mkdir -p "$own"
        cp -a "$folder/." "$own/" 2>/dev/null || true
    fi
    mkdir -p "$folder"
    mount --bind "$own" "$folder"
done
rm -rf /run/libvirt/*
mkdir -p /run/libvirt/common
touch "$state/run/host.ready"
exec sleep infinity
"""


def host_command(state):
    """The process that makes the namespace and keeps it; state.run/host.ready is there when it is made."""
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", _SCRIPT, "minicloud-host", str(state.root), *_FOLDERS]


def enter(processes, *command):
    """The command line that runs `command` where the cloud's libvirtd is qemu:///system. REQUIRES: host runs."""
    return ["nsenter", f"--mount=/proc/{processes.pid('host')}/ns/mnt", "--", *map(str, command)]
