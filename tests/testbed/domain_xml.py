# SPDX-License-Identifier: Apache-2.0
"""The domain definition of a test guest: as plain as a Nova guest's, so sandbox on, anonymous RAM, virtio balloon with
free page reporting."""

from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from .guest_image import GuestImage
from .sizes import KIB

CHANNEL_NAME = "org.thermocline.guestmem"


@dataclass(frozen=True)
class DomainSpec:
    name: str
    uuid: str
    image: GuestImage
    directory: Path  # of its socket and console log
    accelerator: str  # "kvm" or "qemu", as in <domain type=...>
    memory_bytes: int
    vcpus: int = 2
    boots: bool = True  # False: no kernel, for a process that only has to exist
    memory_backing: str = ""  # content of <memoryBacking>
    more_memory_bytes: int = 0  # may be plugged in while it runs
    tools: bool = False  # stress-ng and memtester are in the guest
    disk: Path | None = None  # file for /dev/vda, opened with O_DIRECT
    disk_io: str = "threads"  # how QEMU reads and writes it: threads, native (Linux AIO) or io_uring
    disk_format: str = "raw"
    panics: bool = False  # has a panic device, and is kept when it says that the guest has crashed
    translated_mib: int | None = None  # what TCG may take for translated code; None: QEMU's default

    @property
    def channel_path(self):
        return self.directory / "channel"

    @property
    def console_path(self):
        return self.directory / "console.log"


def _optional(tag, content):
    return f"<{tag}>{content}</{tag}>" if content else ""


def _boot(spec):
    if not spec.boots:
        return ""
    initrd = spec.image.tools_initrd if spec.tools else spec.image.initrd
    return f"""<kernel>{escape(str(spec.image.kernel))}</kernel>
    <initrd>{escape(str(initrd))}</initrd>
    <cmdline>console=ttyS0 quiet mitigations=off panic=-1 memhp_default_state=online</cmdline>"""


def _max_memory(spec):
    if not spec.more_memory_bytes:
        return ""
    return f"<maxMemory slots='4' unit='KiB'>{(spec.memory_bytes + spec.more_memory_bytes) // KIB}</maxMemory>"


def _cpu(spec):
    # TCG's default model has all that the guest needs.
    mode = " mode='host-passthrough'" if spec.accelerator == "kvm" else ""
    if not spec.more_memory_bytes:
        return f"<cpu{mode}/>" if mode else ""
    # libvirt plugs memory only into a guest with NUMA nodes.
    return f"""<cpu{mode}><numa>
    <cell id='0' cpus='0-{spec.vcpus - 1}' memory='{spec.memory_bytes // KIB}' unit='KiB'/></numa></cpu>"""


def _disk(spec):
    if spec.disk is None:
        return ""
    return f"""<disk type='file' device='disk'>
      <driver name='qemu' type='{spec.disk_format}' cache='none' io='{spec.disk_io}'/>
      <source file='{escape(str(spec.disk))}'/><target dev='vda' bus='virtio'/></disk>"""


def _features(spec):
    cache = spec.translated_mib if spec.accelerator == "qemu" else None
    return "<acpi/><apic/>" + _optional("tcg", cache and f"<tb-cache unit='MiB'>{cache}</tb-cache>")


def domain_xml(spec):
    return f"""<domain type='{spec.accelerator}'>
  <name>{escape(spec.name)}</name>
  <uuid>{spec.uuid}</uuid>
  {_max_memory(spec)}
  <memory unit='KiB'>{spec.memory_bytes // KIB}</memory>
  {_optional('memoryBacking', spec.memory_backing)}
  <vcpu>{spec.vcpus}</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    {_boot(spec)}
  </os>
  <features>{_features(spec)}</features>
  {_cpu(spec)}
  <on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>{'preserve' if spec.panics else 'destroy'}</on_crash>
  <devices>
    <controller type='usb' model='none'/>
    {_disk(spec)}
    <serial type='file'><source path='{escape(str(spec.console_path))}'/></serial>
    <channel type='unix'>
      <source mode='bind' path='{escape(str(spec.channel_path))}'/>
      <target type='virtio' name='{CHANNEL_NAME}'/>
    </channel>
    {"<panic model='isa'/>" if spec.panics else ""}
    <memballoon model='virtio' freePageReporting='on'/>
  </devices>
</domain>"""


def dimm_xml(size):
    """Memory to plug into a domain with more_memory_bytes."""
    return f"""<memory model='dimm'>
  <target><size unit='KiB'>{size // KIB}</size><node>0</node></target>
</memory>"""
