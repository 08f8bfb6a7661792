# SPDX-License-Identifier: Apache-2.0
"""thermoclined as the driver needs it (docs/dbus.md). Each call is a connection of its own: nothing to keep alive, nothing that a
restart of daemon or bus breaks."""

from dataclasses import dataclass, fields
from typing import Optional

from jeepney import DBusAddress, MatchRule

from .bus import BusConnection
from .errors import DaemonError, DaemonRefusal
from .host_memory import total_bytes
from .quantities import parse_size

_NAME = "org.thermocline1"
_ROOT = "/org/thermocline1"
_DOMAIN = "org.thermocline1.Domain"
_PROPERTIES_INTERFACE = "org.freedesktop.DBus.Properties"
_MANAGER = DBusAddress(_ROOT, _NAME, "org.thermocline1.Manager")
_HOST = DBusAddress(_ROOT, _NAME, _PROPERTIES_INTERFACE)
_OBJECTS = DBusAddress(_ROOT, _NAME, "org.freedesktop.DBus.ObjectManager")
_PYTHON_TYPES = {"s": str, "t": int, "u": int, "d": float, "b": bool}


@dataclass(frozen=True)
class Figures:
    """Of one domain, read at one moment. Sizes in bytes; stall_ratio from 0 to 1, of the last second; stall in nanoseconds."""

    state: str
    memory: int
    resident: int
    staged: int
    cold: int
    store: int
    frozen: int
    metadata: int
    used: int
    limit: int
    limit_met: bool
    stall_ratio: float
    stall: int
    mechanism: str
    max_stall: float
    min_resident: int
    priority: int
    allotment: int
    running: bool


@dataclass(frozen=True)
class HostFigures:
    """domains: {UUID: Figures} of all that libvirt knows; budget: bytes that the attached ones may take together, None where there is
    no budget."""

    domains: dict
    budget: Optional[int]


_PROPERTIES = {
    "state": ("State", "s"), "memory": ("MemoryBytes", "t"), "resident": ("ResidentBytes", "t"), "staged": ("StagedBytes", "t"),
    "cold": ("ColdBytes", "t"), "store": ("StoreBytes", "t"), "frozen": ("FrozenBytes", "t"), "metadata": ("MetadataBytes", "t"),
    "used": ("UsedBytes", "t"), "limit": ("LimitBytes", "t"), "limit_met": ("LimitMet", "b"), "stall_ratio": ("StallRatio", "d"),
    "stall": ("StallNanoseconds", "t"), "mechanism": ("Mechanism", "s"),
    "max_stall": ("ProactiveMaxStall", "d"), "min_resident": ("MinResidentBytes", "t"), "priority": ("Priority", "u"),
    "allotment": ("AllotmentBytes", "t"), "running": ("Running", "b")}
assert set(_PROPERTIES) == {field.name for field in fields(Figures)}


class Daemon:
    """Thread-safe: it keeps no state. DaemonError where the daemon cannot be asked."""

    def __init__(self, bus_address):
        self._bus_address = bus_address

    def host_figures(self, seconds):
        """HostFigures of this moment."""
        with BusConnection(self._bus_address, seconds) as bus:
            objects = _one(bus.call(_OBJECTS, "GetManagedObjects"), dict, "GetManagedObjects")
            budget = _one(bus.call(_HOST, "Get", "ss", (_MANAGER.interface, "Budget")), tuple, "Get")
        found = {}
        for path, interfaces in objects.items():
            if isinstance(interfaces, dict) and _DOMAIN in interfaces:
                found[path.rsplit("/", 1)[1].replace("_", "-")] = _figures(path, interfaces[_DOMAIN])
        return HostFigures(found, _budget(budget))

    def domain_figures(self, uuid, seconds):
        """Figures of one domain. DaemonRefusal where the daemon does not know it."""
        with BusConnection(self._bus_address, seconds) as bus:
            return self._domain_figures(bus, self._lookup(bus, uuid))

    def apply(self, uuid, settings, seconds):
        """Attaches to the running domain and sees to it that what holds is exactly what Settings say; returns its Figures. What is so
        already, for example because the daemon has read the domain's metadata, is left so."""
        with BusConnection(self._bus_address, seconds) as bus:
            bus.watch(MatchRule(type="signal", sender=_NAME))
            # libvirt may have told the driver of the domain, and that it runs, before the daemon; and the daemon may be about to attach
            # by itself. A signal tells of each.
            while True:
                try:
                    return self._apply(bus, uuid, settings)
                except DaemonRefusal as refusal:
                    if refusal.name not in ("NoSuchDomain", "DomainNotRunning", "Busy"):
                        raise
                bus.wait_for_signal(f"the start of domain {uuid}, as thermoclined sees it,")

    def release(self, uuid, seconds):
        """Detaches from the domain and has the daemon forget what it was told of it; nothing where it was told nothing. Where the domain
        has just started, the daemon may be about to attach: that it has comes with a signal."""
        with BusConnection(self._bus_address, seconds) as bus:
            bus.watch(MatchRule(type="signal", sender=_NAME))
            while True:
                try:
                    domain = self._lookup(bus, uuid)
                    if not self._is_managed(bus, domain):
                        return
                    bus.call(domain, "Detach")
                    return
                except DaemonRefusal as refusal:
                    if refusal.name == "NoSuchDomain":
                        return
                    if refusal.name not in ("NotAttached", "DomainNotRunning", "Busy"):
                        raise
                bus.wait_for_signal(f"the attach to domain {uuid}, which is to be undone,")

    @staticmethod
    def _is_managed(bus, domain):
        properties = DBusAddress(domain.object_path, _NAME, _PROPERTIES_INTERFACE)
        return _one(bus.call(properties, "GetAll", "s", (_DOMAIN,)), dict, "GetAll").get("Managed") == ("b", True)

    def _apply(self, bus, uuid, settings):
        domain = self._lookup(bus, uuid)
        try:
            bus.call(domain, "Attach")
        except DaemonRefusal as refusal:
            if refusal.name != "AlreadyAttached":
                raise
        now = self._domain_figures(bus, domain)
        if settings.limit and now.limit != settings.limit:
            bus.call(domain, "SetLimit", "t", (settings.limit,))
        elif now.limit and not settings.limit:
            bus.call(domain, "ClearLimit")
        if (now.max_stall, now.min_resident) != (settings.max_stall, settings.min_resident):
            bus.call(domain, "SetProactive", "dt", (settings.max_stall, settings.min_resident))
        if now.priority != settings.priority:
            bus.call(domain, "SetPriority", "u", (settings.priority,))
        return self._domain_figures(bus, domain)

    @staticmethod
    def _lookup(bus, uuid):
        path = _one(bus.call(_MANAGER, "LookupByUuid", "s", (uuid,)), str, "LookupByUuid")
        return DBusAddress(path, _NAME, _DOMAIN)

    @staticmethod
    def _domain_figures(bus, domain):
        properties = DBusAddress(domain.object_path, _NAME, _PROPERTIES_INTERFACE)
        return _figures(domain.object_path, _one(bus.call(properties, "GetAll", "s", (_DOMAIN,)), dict, "GetAll"))


def _one(body, kind, method):
    if len(body) != 1 or not isinstance(body[0], kind):
        raise DaemonError(f"the answer to {method} is not of the type that it should be: {body!r:.200}")
    return body[0]


def _budget(value):
    """Of the property's value, ("s", "75%")."""
    signature, text = value
    if signature != "s":
        raise DaemonError(f"the budget should be of type s and is {value!r}; the daemon and this driver do not fit together")
    if text == "off":
        return None
    try:
        return parse_size(text, total_bytes())
    except ValueError as error:
        raise DaemonError(f"thermoclined's budget makes no sense: {error}") from None


def _figures(path, properties):
    values = {}
    for field, (name, signature) in _PROPERTIES.items():
        value = properties.get(name)
        if not (isinstance(value, tuple) and value[0] == signature and isinstance(value[1], _PYTHON_TYPES[signature])):
            raise DaemonError(f"{path}: {name} should be of type {signature} and is {value!r}; the daemon and this driver do not fit together")
        values[field] = value[1]
    return Figures(**values)
