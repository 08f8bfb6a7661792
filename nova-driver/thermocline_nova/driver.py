# SPDX-License-Identifier: Apache-2.0
"""The compute driver: Nova's libvirt driver, and what Thermocline adds. Without the daemon, and for servers that ask for
nothing, it does exactly what its parent does."""

import threading

import nova.conf
from nova import exception
from nova.virt.libvirt import driver as libvirt_driver
from oslo_log import log

from . import options, traits
from .allocations import allocated_mb, keep
from .capacity import Capacity, Pressure, Rules
from .daemon import Daemon
from .diagnostics import add_figures
from .eligibility import reason_to_leave_alone
from .errors import BadSetting, DaemonError, DaemonRefusal
from .host_memory import available_mb
from .host_statistics import add_statistics
from .metadata import OvercommitMetadata
from .mover import Mover
from .notices import Notices
from .nova_api import NovaApi
from .settings import FLAVOR_PREFIX, IMAGE_PREFIX, MIB, read_settings

CONF = nova.conf.CONF
LOG = log.getLogger(__name__)
_IMAGE_IN_SYSTEM_METADATA = "image_"
# Stays with the server wherever it goes: the daemon of some host may remember what it has asked for.
_HAS_ASKED = "thermocline_has_asked"


class ThermoclineDriver(libvirt_driver.LibvirtDriver):
    """Loaded by `compute_driver = thermocline.ThermoclineDriver`. As thread-safe as its parent."""

    def __init__(self, virtapi, read_only=False):
        super().__init__(virtapi, read_only)
        options.register(CONF)
        own = CONF.thermocline
        self._daemon = Daemon(own.bus_address)
        self._capacity = Capacity(Rules(own.safety_margin, own.max_ratio, own.headroom_mb, own.hysteresis_mb))
        self._notices = Notices(CONF.host)
        self._mover = Mover(own.evict_servers, own.evict_interval, CONF.host, NovaApi(CONF), self._notices)
        self._daemon_is_away = False
        self._pressure = Pressure.NONE

    def prepare_for_spawn(self, instance):
        """Also refuses a server whose flavor or image asks for what cannot be: InstanceUnacceptable, whose message is the
        server's fault that the API shows."""
        super().prepare_for_spawn(instance)
        try:
            _settings_of(instance, instance.flavor)
        except BadSetting as error:
            self._notices.warn("refused", {"server": instance.uuid, "reason": str(error)})
            raise exception.InstanceUnacceptable(instance_id=instance.uuid, reason=str(error)) from None

    def migrate_disk_and_power_off(self, context, instance, dest, flavor, network_info, block_device_info=None, timeout=0,
                                   retry_interval=0):
        """Also refuses a resize to a flavor that asks for what cannot be, while the server still runs as it was."""
        try:
            _settings_of(instance, flavor)
        except BadSetting as error:
            raise exception.InstanceFaultRollback(exception.ResizeError(reason=str(error))) from None
        return super().migrate_disk_and_power_off(context, instance, dest, flavor, network_info, block_device_info, timeout,
                                                  retry_interval)

    def _get_guest_config(self, instance, *arguments, **named):
        """With the domain's metadata, each time that Nova defines it: create, start, rebuild, resize, unshelve, evacuate."""
        guest = super()._get_guest_config(instance, *arguments, **named)
        settings = self._settings_or_none(instance)
        if settings is None:
            return guest
        reason = reason_to_leave_alone(guest)
        if reason is None:
            guest.metadata.append(OvercommitMetadata(settings))
            if _loaded(instance, "system_metadata") is not None:
                instance.system_metadata[_HAS_ASKED] = "yes"  # Nova saves it at the end of what it is doing
        else:
            LOG.warning("Not overcommitted: %s", reason, instance=instance)
            self._notices.warn("refused", {"server": instance.uuid, "reason": reason})
        return guest

    def _create_guest(self, context, xml, instance, *arguments, **named):
        guest = super()._create_guest(context, xml, instance, *arguments, **named)
        if self._settings_or_none(instance) is None:
            if _asked_before(instance):
                self._soon(self._release, instance)
        elif OvercommitMetadata.is_in(xml):
            self._soon(self._attach, instance)
        return guest

    def post_live_migration_at_destination(self, context, instance, network_info, block_migration=False, block_device_info=None):
        """Also attaches here: the metadata has come along with the domain."""
        super().post_live_migration_at_destination(context, instance, network_info, block_migration, block_device_info)
        if self._settings_or_none(instance) and OvercommitMetadata.is_in(self._host.get_guest(instance).get_xml_desc()):
            self._soon(self._attach, instance)

    def update_provider_tree(self, provider_tree, nodename, allocations=None):
        """As the parent's; then MEMORY_MB and traits as the daemon's figures say, where it answers."""
        super().update_provider_tree(provider_tree, nodename, allocations)
        host = self._host_figures()
        wanted = traits.wanted(host)
        provider_tree.add_traits(nodename, *wanted)
        provider_tree.remove_traits(nodename, *(traits.ALL - wanted))
        if host is None or not CONF.thermocline.inventory:
            self._capacity.forget()
            return
        inventory = provider_tree.data(nodename).inventory
        memory = inventory.get("MEMORY_MB")
        if memory is None:
            return
        offer = self._capacity.offer(memory["total"], available_mb(), host)
        memory["total"] = offer.total
        # Nova waits for this when it makes a server: Placement is asked only where less may be offered than is given out.
        servers_mb = sum(each.memory for each in host.domains.values()) / MIB
        if offer.pressure != Pressure.NONE or servers_mb > (memory["total"] - memory["reserved"]) * memory["allocation_ratio"]:
            keep(memory, allocated_mb(provider_tree.data(nodename).uuid) or 0, offer.full)
        provider_tree.update_inventory(nodename, inventory)
        self._tell_pressure(offer)
        if offer.pressure == Pressure.MOVES:
            self._mover.relieve(host.domains)
        elif offer.pressure == Pressure.NONE:
            self._mover.rest()

    def get_available_resource(self, nodename):
        """With figures of all the host's servers together, where the daemon answers."""
        resource = super().get_available_resource(nodename)
        host = self._host_figures()
        if host is not None:
            add_statistics(resource, host.domains)
        return resource

    def get_diagnostics(self, instance):
        """With thermocline_... keys where the server is attached (API below 2.48)."""
        output = super().get_diagnostics(instance)
        figures = self._figures_of(instance)
        if figures is not None:
            add_figures(output, figures)
        return output

    def get_instance_diagnostics(self, instance):
        """With what the server really costs as memory_details.used, where it is attached; Nova's format has no more room."""
        diagnostics = super().get_instance_diagnostics(instance)
        figures = self._figures_of(instance)
        if figures is not None:
            diagnostics.memory_details.used = figures.used // MIB
        return diagnostics

    def _settings_or_none(self, instance):
        """A server that exists must boot: what is wrong with its flavor was said when it was made. None also where Nova has not loaded
        the flavor, which it has wherever it defines or receives a domain."""
        if "flavor" not in instance:
            return None
        try:
            return _settings_of(instance, instance.flavor)
        except BadSetting as error:
            LOG.error("Not overcommitted: %s", error, instance=instance)
            return None

    @staticmethod
    def _soon(what, instance):
        """Beside the boot, which waits for nothing of ours. A greenthread under eventlet."""
        threading.Thread(target=what, args=(instance,), name=f"thermocline-{instance.uuid}", daemon=True).start()

    def _release(self, instance):
        try:
            self._daemon.release(instance.uuid, CONF.thermocline.attach_timeout)
        except DaemonError as error:
            LOG.warning("thermoclined may go on with what the server's former flavor asked for: %s", error, instance=instance)
        else:
            LOG.info("No longer overcommitted", instance=instance)

    def _attach(self, instance):
        try:
            settings = self._settings_or_none(instance)
            figures = self._daemon.apply(instance.uuid, settings, CONF.thermocline.attach_timeout)
        except DaemonRefusal as refusal:
            LOG.warning("Not overcommitted: thermoclined refuses: %s", refusal, instance=instance)
            self._notices.warn("refused", {"server": instance.uuid, "reason": str(refusal)})
        except DaemonError as error:
            self._daemon_is_missing(error)
            self._notices.warn("refused", {"server": instance.uuid, "reason": str(error)})
        else:
            self._daemon_answers()
            LOG.info("Overcommitted: limit %s, max stall %s", figures.limit or "none", settings.max_stall or "none", instance=instance)
            self._notices.info("attach", {"server": instance.uuid, "limit": figures.limit, "max_stall": settings.max_stall,
                                          "min_resident": settings.min_resident, "priority": settings.priority})

    def _host_figures(self):
        """None where the daemon is away."""
        try:
            host = self._daemon.host_figures(CONF.thermocline.timeout)
        except DaemonError as error:
            self._daemon_is_missing(error)
            return None
        self._daemon_answers()
        return host

    def _figures_of(self, instance):
        """None where the daemon is away, does not know the domain, or is not attached to it."""
        try:
            figures = self._daemon.domain_figures(instance.uuid, CONF.thermocline.timeout)
        except DaemonRefusal:
            return None
        except DaemonError as error:
            self._daemon_is_missing(error)
            return None
        return figures if figures.state == "attached" else None

    def _daemon_is_missing(self, error):
        if not self._daemon_is_away:
            LOG.warning("Working as Nova's own libvirt driver until thermoclined is back: %s", error)
        self._daemon_is_away = True

    def _daemon_answers(self):
        if self._daemon_is_away:
            LOG.info("thermoclined answers again")
        self._daemon_is_away = False

    def _tell_pressure(self, offer):
        if offer.pressure != self._pressure:
            LOG.warning("Memory pressure %d: %d MiB of head-room are missing, MEMORY_MB is %d, the host takes %s", offer.pressure,
                        offer.missing, offer.total, "no more servers" if offer.full else "servers")
            self._notices.warn("pressure", {"host": CONF.host, "pressure": int(offer.pressure), "missing_mb": offer.missing,
                                            "memory_mb": offer.total})
        self._pressure = offer.pressure


def _settings_of(instance, flavor):
    """None where nothing is asked for: nothing else of the objects is looked at then."""
    specs, image = _said(instance, flavor)
    return read_settings(specs, image, flavor.memory_mb * MIB) if specs or image else None


def _asked_before(instance):
    """True where the daemon may remember a wish that the server has no longer, after a resize or a rebuild, or it is told to be left
    alone."""
    return (_HAS_ASKED in (_loaded(instance, "system_metadata") or {})
            or any(map(bool, _said(instance, _loaded(instance, "flavor")))))


def _said(instance, flavor):
    """What the flavor and the image say of us."""
    specs = _loaded(flavor, "extra_specs") if flavor is not None else None
    metadata = _loaded(instance, "system_metadata")
    return ({key: value for key, value in (specs or {}).items() if key.startswith(FLAVOR_PREFIX)},
            {key[len(_IMAGE_IN_SYSTEM_METADATA):]: value for key, value in (metadata or {}).items()
             if key.startswith(_IMAGE_IN_SYSTEM_METADATA + IMAGE_PREFIX)})


def _loaded(thing, field):
    """Of one of Nova's objects; None where it has not been loaded: to load it would cost Nova a call that it does not make itself."""
    return getattr(thing, field) if field in thing else None
