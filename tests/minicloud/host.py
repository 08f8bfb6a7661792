# SPDX-License-Identifier: Apache-2.0
"""The cloud's compute hosts, all on this machine: each is a libvirtd of its own, in namespaces where libvirt's folders and the
host's name are its own. So the machine's libvirtd and the domains of other tests are neither seen nor touched, and what Nova
defines is not written to /etc."""

import uuid

# The host that every cloud has, as Nova calls it; others are added.
FIRST = "minicloud"
# What each host has of its own. Of another host than the first they are called as systemd calls instances: libvirtd@second.
HOST_SERVICES = ("host", "virtlogd", "libvirtd", "nova-compute")

# What libvirtd, virtlogd and libvirt's QEMU driver write; /etc/libvirt starts as a copy. Its UUID: libvirt does not migrate to
# the host that the domain is on. Migration comes in on the loopback
# alone, at an address that libvirt does not take for a mistake, as it does 127.0.0.1.
_FOLDERS = ("/run/libvirt", "/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt", "/etc/libvirt")
_SCRIPT = """set -eu
root=$1; ready=$2; name=$3; uuid=$4; own_nova=$5; nova=$6; shift 6
hostname "$name"
[ -d "$root" ] && fresh=no || fresh=yes
for folder; do
    own=$root$folder
    if [ ! -d "$own" ]; then
        mkdir -p "$own"
        cp -a "$folder/." "$own/" 2>/dev/null || true
    fi
    mkdir -p "$folder"
    mount --bind "$own" "$folder"
done
if [ $fresh = yes ]; then
    echo "host_uuid = \\"$uuid\\"" >>/etc/libvirt/libvirtd.conf
    printf '%s = "127.0.0.2"\\n' migration_address migration_host >>/etc/libvirt/qemu.conf
fi
mount --bind "$own_nova" "$nova"
{ cat /etc/hosts; echo "127.0.0.1 $name"; } >"$root/hosts"
mount --bind "$root/hosts" /etc/hosts
rm -rf /run/libvirt/*
mkdir -p /run/libvirt/common
touch "$ready"
exec sleep infinity
"""


def service_of(service, host):
    """What the service, one of HOST_SERVICES, of that host is called."""
    return service if host == FIRST else f"{service}@{host}"


def split_service(name):
    """(service, host) of what service_of() returned, or (name, FIRST)."""
    service, _, host = name.partition("@")
    return service, host or FIRST


def host_name(host):
    """The name that its libvirtd, and so Placement, knows it by. With a dot: nobody looks it up."""
    return f"{host}.localdomain"


def ready_file(state, host):
    """There once the host's namespaces are made."""
    return state.run / f"{service_of('host', host)}.ready"


def host_command(state, host):
    """The process that makes the namespaces and keeps them; then there is ready_file(). Nova's folder has the same path on all hosts: a
    domain that migrates keeps the paths of its disks."""
    return ["unshare", "--mount", "--propagation", "private", "--uts", "sh", "-c", _SCRIPT, "minicloud-host",
            str(state.host_folder(host)), str(ready_file(state, host)), host_name(host),
            str(uuid.uuid5(uuid.NAMESPACE_URL, str(state.host_folder(host)))), str(state.nova_folder(host)), str(state.nova_folder(FIRST)),
            *_FOLDERS]


def enter(processes, *command, host=FIRST):
    """The command line that runs `command` where the host's libvirtd is qemu:///system. REQUIRES: the host runs."""
    space = f"/proc/{processes.pid(service_of('host', host))}/ns"
    return ["nsenter", f"--mount={space}/mnt", f"--uts={space}/uts", "--", *map(str, command)]
