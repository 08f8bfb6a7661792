# SPDX-License-Identifier: Apache-2.0
"""The image and the flavors. The image is the system tests' guest, speaking on its serial console, which is what every
Nova server has: guestmem fills and verifies memory there (tests/guest/README.md)."""

import subprocess
import tempfile
from pathlib import Path

from testbed.guest_image import build_guest_image

from .errors import CloudError
from .rest import ApiError

IMAGE = "guestmem"
_FLAVOR_MIB = (96, 128, 256, 512)
# Read by the kernel after the test guest's own initrd, so its /init is the one that runs.
_INIT = """#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs dev /dev
while read -r module; do $b insmod "/modules/$module"; done </modules/order
$b stty -F /dev/ttyS0 raw -echo
exec /bin/guestmem /dev/ttyS0
"""


def make_images(rest):
    """Uploads what is missing."""
    folder = build_guest_image()
    # Not as aki and ari: where it fetches them for a live migration, this Nova takes them for raw disks that say something else.
    kernel = _image(rest, "guestmem-kernel", "bare", "raw", (folder / "vmlinuz").read_bytes())
    initrd = _image(rest, "guestmem-initrd", "bare", "raw", (folder / "initrd").read_bytes() + _overlay())
    # A raw disk, which nothing reads: this Nova takes no image without one, and none of format ami.
    _image(rest, IMAGE, "bare", "raw", bytes(1 << 20), kernel_id=kernel, ramdisk_id=initrd, hw_machine_type="pc",
           os_command_line="console=ttyS0 quiet mitigations=off panic=-1")


def make_flavors(rest):
    """m96, m128, ...: MiB of memory, one processor, a disk of 1 GiB that is not written."""
    for mib in _FLAVOR_MIB:
        make_flavor(rest, f"m{mib}", mib)


def make_flavor(rest, name, mib, specs=None):
    """specs: extra specs, {"thermocline:policy": "limit", ...}. ApiError where the API refuses one."""
    try:
        rest.call("nova-api", "POST", "/v2.1/flavors", {"flavor": {"id": name, "name": name, "ram": mib, "vcpus": 1, "disk": 1}})
    except ApiError as error:
        if error.status != 409:  # it is there
            raise
    if specs:
        rest.call("nova-api", "POST", f"/v2.1/flavors/{name}/os-extra_specs", {"extra_specs": specs})


def copy_image(rest, name, **properties):
    """Another image with the content of IMAGE and more properties; returns its id."""
    source = find_image(rest, IMAGE)
    shared = {key: source[key] for key in ("kernel_id", "ramdisk_id", "hw_machine_type", "os_command_line")}
    return _image(rest, name, "bare", "raw", bytes(1 << 20), **shared, **properties)


def find_image(rest, name):
    """As glance describes it. CloudError where there is none."""
    found = rest.call("glance-api", "GET", f"/v2/images?name={name}")["images"]
    if not found:
        raise CloudError(f"there is no image {name}")
    return found[0]


def _image(rest, name, container_format, disk_format, data, **properties):
    found = rest.call("glance-api", "GET", f"/v2/images?name={name}")["images"]
    if found:
        return found[0]["id"]
    image = rest.call("glance-api", "POST", "/v2/images", {
        "name": name, "container_format": container_format, "disk_format": disk_format, "visibility": "public", **properties})
    rest.call("glance-api", "PUT", f"/v2/images/{image['id']}/file", raw=data)
    return image["id"]


def _overlay():
    with tempfile.TemporaryDirectory() as folder:
        init = Path(folder) / "init"
        init.write_text(_INIT)
        init.chmod(0o755)
        return subprocess.run(["sh", "-c", "echo init | cpio -o -H newc -R 0:0 --quiet | gzip -1"], cwd=folder,
                              capture_output=True, check=True).stdout
