# SPDX-License-Identifier: Apache-2.0
"""Which servers are left alone, and why: read from the configuration that Nova has made for the guest, so that it does not
matter which flavor, image or host setting asked for it."""

from nova.virt.libvirt import config


def reason_to_leave_alone(guest):
    """A sentence, or None where this LibvirtConfigGuest can be overcommitted."""
    if guest.launch_security is not None:
        return "its memory is encrypted (SEV): what is compressed or moved could not be read back"
    backing = guest.membacking
    if backing is not None:
        if backing.filesource:
            return "its memory is file-backed ([libvirt] file_backed_memory): the kernel writes it to that file already"
        if backing.hugepages:
            return "it has huge pages of its own (hw:mem_page_size), which cannot be moved"
        if backing.sharedaccess:
            return "its memory is shared with another process (vhost-user or virtiofs)"
        if backing.locked:
            return "its memory is locked (hw:locked_memory or realtime)"
    if guest.cputune is not None and guest.cputune.vcpusched:
        return "it is a realtime server (hw:cpu_realtime), which must not wait for memory"
    for device in guest.devices:
        if isinstance(device, config.LibvirtConfigGuestHostdev) or getattr(device, "net_type", None) in ("hostdev", "vdpa"):
            return "it has a device of the host's (VFIO, SR-IOV, vGPU or vDPA), whose memory is pinned"
    return None
