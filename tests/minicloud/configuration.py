# SPDX-License-Identifier: Apache-2.0
"""Each service's configuration, made from the templates in conf/ for this cloud's folder. /etc is read, never written."""

import shutil
from dataclasses import dataclass
from pathlib import Path

_TEMPLATES = Path(__file__).parent / "conf"
_PLACES = {"mariadb.cnf": "mariadb.cnf", "rabbitmq.conf": "rabbitmq.conf", "keystone.conf": "keystone/keystone.conf",
           "placement.conf": "placement/placement.conf", "glance-api.conf": "glance/glance-api.conf",
           "neutron.conf": "neutron/neutron.conf", "nova.conf": "nova/nova.conf"}
_PASTE = ("/etc/neutron/api-paste.ini", "/etc/nova/api-paste.ini", "/etc/glance/glance-api-paste.ini")
DRIVERS = {"stock": "libvirt.LibvirtDriver", "thermocline": "thermocline.ThermoclineDriver"}


@dataclass(frozen=True)
class Options:
    """How nova-compute is set up. driver: one of DRIVERS; reserved_mb: of the host's memory, for Nova not to give away;
    thermocline: lines of the section [thermocline] of nova.conf."""

    driver: str = "stock"
    reserved_mb: int = 512
    thermocline: tuple = ()


def write_configuration(state, options):
    """(Re)writes all of it but that of added hosts; read when a service starts."""
    values = {"STATE": str(state.root), "PASSWORD": state.password, "COMPUTE_DRIVER": DRIVERS[options.driver],
              "RESERVED_MB": str(options.reserved_mb), "THERMOCLINE": _section(options.thermocline)}
    for template, place in _PLACES.items():
        target = state.etc / place
        target.parent.mkdir(exist_ok=True)
        target.write_text(_filled(template, values))
        if target.parent != state.etc:
            target.parent.chmod(0o700)  # the password is in it
    (state.etc / "rabbitmq_plugins").write_text("[].\n")
    for paste in map(Path, _PASTE):
        shutil.copyfile(paste, state.etc / paste.parent.name / paste.name)


def write_host_configuration(state, host, thermocline):
    """Of an added host's nova-compute, where it differs; thermocline: lines of its section."""
    values = {"HOST": host, "THERMOCLINE": _section(thermocline)}
    host_configuration(state, host).write_text(_filled("nova-host.conf", values))


def host_configuration(state, host):
    """What write_host_configuration() writes."""
    return state.etc / "nova" / f"{host}.conf"


def _section(lines):
    return "[thermocline]\n" + "".join(f"{line}\n" for line in lines)


def _filled(template, values):
    text = (_TEMPLATES / template).read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text
