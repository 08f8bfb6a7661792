# SPDX-License-Identifier: Apache-2.0
"""KVM where a Linux guest boots under it, else TCG. /dev/kvm alone says little: some nested ones cannot boot Linux."""

import json
import os

from .errors import TestbedError
from .guest import Guest, unique_name
from .paths import GUEST_IMAGE
from .sizes import MIB

import libvirt

_PROBE_SECONDS = 8.0


def choose_accelerator(image, run_dir):
    """"kvm" or "qemu" (TCG). The answer is kept in the build directory until the kernel or the guest changes."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "qemu"
    question = f"{os.uname().release} {os.uname().version} {os.stat(GUEST_IMAGE / 'vmlinuz').st_mtime_ns}"
    cache = GUEST_IMAGE / "accelerator.json"
    try:
        known = json.loads(cache.read_text())
    except (OSError, ValueError):
        known = {}
    if known.get("question") != question:
        known = {"question": question, "accelerator": "kvm" if _boots_under_kvm(image, run_dir) else "qemu"}
        cache.write_text(json.dumps(known))
    return known["accelerator"]


def _boots_under_kvm(image, run_dir):
    guest = Guest.create(unique_name("kvm-probe"), image, run_dir, "kvm", 256 * MIB)
    with guest:
        try:
            guest.start(boot_seconds=_PROBE_SECONDS)
        except (TestbedError, libvirt.libvirtError):
            return False
    return True
