# SPDX-License-Identifier: Apache-2.0
"""virsh, as people type it."""

import subprocess

from .errors import TestbedError
from .host_services import CONNECT_URI

METADATA_URI = "http://thermocline.org/xmlns/libvirt/domain/1.0"


def virsh(*arguments, seconds=60.0):
    """What it prints; raises where it fails."""
    result = subprocess.run(["virsh", "--quiet", "--connect", CONNECT_URI, *arguments], stdin=subprocess.DEVNULL,
                            capture_output=True, text=True, timeout=seconds, check=False)
    if result.returncode:
        raise TestbedError(f"virsh {' '.join(arguments)}: {result.stderr.strip()}")
    return result.stdout.strip()


def set_overcommit(name, element, *flags):
    """virsh metadata --set. `flags`: --live, --config, both, or none, as of virsh."""
    virsh("metadata", name, METADATA_URI, "--key", "thermocline", "--set", element, *flags)


def remove_overcommit(name, *flags):
    virsh("metadata", name, METADATA_URI, "--remove", *flags)


def overcommit(name, *flags):
    """The element, or None where there is none."""
    try:
        return virsh("metadata", name, METADATA_URI, *flags)
    except TestbedError as error:
        if "metadata element is not present" in str(error):
            return None
        raise
