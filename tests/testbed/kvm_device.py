# SPDX-License-Identifier: Apache-2.0
"""/dev/kvm as udev would have made it. On a machine without udev only root may open it; libvirt, which probes as root
but runs QEMU as another user, then probes QEMU again before every single step, and a domain takes a minute to start."""

import contextlib
import grp
import os
import stat
from pathlib import Path

_DEVICE = Path("/dev/kvm")


@contextlib.contextmanager
def kvm_device_for_libvirt():
    """Lends the device to group kvm while the context lasts, where udev has not given it to anyone."""
    try:
        before = _DEVICE.stat()
        group = grp.getgrnam("kvm").gr_gid
    except (FileNotFoundError, KeyError):
        yield
        return
    if before.st_gid == group or stat.S_IMODE(before.st_mode) & stat.S_IROTH:
        yield
        return
    os.chown(_DEVICE, before.st_uid, group)
    _DEVICE.chmod(0o660)
    try:
        yield
    finally:
        os.chown(_DEVICE, before.st_uid, before.st_gid)
        _DEVICE.chmod(stat.S_IMODE(before.st_mode))
