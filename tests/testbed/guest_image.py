# SPDX-License-Identifier: Apache-2.0
"""The test guest's kernel and initrd; see tests/guest."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .errors import TestbedError
from .paths import GUEST_IMAGE, ROOT


@dataclass(frozen=True)
class GuestImage:
    kernel: Path
    initrd: Path
    tools_initrd: Path | None  # with stress-ng and memtester; none where nobody needs it


def build_guest_image():
    """Makes the image where it is missing or old; returns its directory."""
    result = subprocess.run([ROOT / "tests/guest/build-guest", GUEST_IMAGE], stdin=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        raise TestbedError(f"cannot build the test guest: {result.stderr.strip()}")
    return GUEST_IMAGE


def stage_guest_image(run_dir):
    """Copies the image to where libvirt's QEMU user can read it, whatever the checkout's permissions are."""
    build_guest_image()
    image = GuestImage(kernel=run_dir / "vmlinuz", initrd=run_dir / "initrd", tools_initrd=run_dir / "initrd-tools")
    for file in (image.kernel, image.initrd, image.tools_initrd):
        shutil.copyfile(GUEST_IMAGE / file.name, file)
    return image
