# SPDX-License-Identifier: Apache-2.0
"""The driver with Nova's own objects; what its parent does with libvirt is replaced, the daemon is a fake on a real bus."""

import json
import logging
import signal
import time
from unittest import mock

import nova.conf
import pytest
from nova import exception, objects
from nova.compute import provider_tree
from nova.virt.libvirt import config as guest_config
from nova.virt.libvirt import migration
from nova.virt.libvirt.driver import LibvirtDriver
from thermocline_nova import driver as driver_module
from thermocline_nova import host_statistics
from thermocline_nova.metadata import NAMESPACE, OvercommitMetadata
from thermocline_nova.nova_api import NovaApi
from thermocline_nova.settings import Settings

from .conftest import UUID
from .fake_daemon import ATTACHED, HANG, MIB, FakeDaemon, Refusal

NODE = "node1"
_HOST_MB = 8000
_STOCK = {"total": _HOST_MB, "min_unit": 1, "max_unit": _HOST_MB, "step_size": 1, "allocation_ratio": 1.0, "reserved": 512}


@pytest.fixture
def notices(monkeypatch):
    """(priority, event, payload) of each notification."""
    sent = []
    notifier = mock.Mock()
    for priority in ("info", "warn"):
        getattr(notifier, priority).side_effect = lambda _context, event, payload, priority=priority: sent.append((priority, event, payload))
    monkeypatch.setattr("nova.rpc.LEGACY_NOTIFIER", mock.Mock(prepare=lambda publisher_id: notifier))
    return sent


@pytest.fixture
def driver(conf, notices, monkeypatch):
    monkeypatch.setattr(driver_module, "available_mb", lambda: 4000)
    monkeypatch.setattr(driver_module, "allocated_mb", lambda provider: 0)
    return driver_module.ThermoclineDriver(mock.Mock())


def _instance(specs=None, image=None, memory_mb=512):
    flavor = objects.Flavor(name="f", memory_mb=memory_mb, vcpus=1, root_gb=1, ephemeral_gb=0, swap=0, extra_specs=specs or {})
    return objects.Instance(uuid=UUID, flavor=flavor, system_metadata={f"image_{key}": value for key, value in (image or {}).items()})


LIMITED = {"thermocline:limit": "200MiB"}


@pytest.fixture
def stock(monkeypatch):
    """Nova's own update_provider_tree: the inventory that it would report for this host."""
    def update(_self, tree, node, allocations=None):
        tree.update_inventory(node, {"MEMORY_MB": dict(_STOCK), "VCPU": {**_STOCK, "total": 2, "max_unit": 2, "reserved": 0}})
    monkeypatch.setattr(LibvirtDriver, "update_provider_tree", update)


def _updated(driver, tree=None):
    if tree is None:
        tree = provider_tree.ProviderTree()
        tree.new_root(NODE, "aaaaaaaa-0000-4000-8000-000000000001", generation=1)
    driver.update_provider_tree(tree, NODE)
    return tree.data(NODE)


def test_placement_hears_what_overcommit_yields(driver, stock, fake):
    data = _updated(driver)
    assert data.inventory["MEMORY_MB"] == {**_STOCK, "total": _HOST_MB + 312 * 9 // 10}
    assert data.inventory["VCPU"]["total"] == 2
    assert data.traits == {"CUSTOM_THERMOCLINE", "CUSTOM_THERMOCLINE_MOVE"}


def test_the_inventory_is_a_change_that_nova_sends(driver, stock, fake):
    tree = provider_tree.ProviderTree()
    tree.new_root(NODE, "aaaaaaaa-0000-4000-8000-000000000001", generation=1)
    tree.update_inventory(NODE, {"MEMORY_MB": dict(_STOCK)})
    before = tree.data(NODE)
    assert before.inventory["MEMORY_MB"]["total"] == _HOST_MB
    driver.update_provider_tree(tree, NODE)
    assert tree.has_inventory_changed(NODE, before.inventory)
    assert before.inventory["MEMORY_MB"]["total"] == _HOST_MB


def test_no_attached_domain_no_mechanism(driver, stock, fake):
    fake.domains[UUID]["State"] = ("s", "detached")
    data = _updated(driver)
    assert data.inventory["MEMORY_MB"] == _STOCK
    assert data.traits == {"CUSTOM_THERMOCLINE"}


@pytest.mark.parametrize("mechanism, trait", [("move", {"CUSTOM_THERMOCLINE_MOVE"}), ("copy", {"CUSTOM_THERMOCLINE_COPY"}), ("unmap", {"CUSTOM_THERMOCLINE_UNMAP"}), ("another", set())])
def test_the_mechanism_is_a_trait(driver, stock, fake, mechanism, trait):
    fake.domains[UUID]["Mechanism"] = ("s", mechanism)
    assert _updated(driver).traits == {"CUSTOM_THERMOCLINE"} | trait


def test_the_option_leaves_the_inventory_alone(driver, stock, fake, conf):
    conf.set_override("inventory", False, "thermocline")
    data = _updated(driver)
    assert data.inventory["MEMORY_MB"] == _STOCK
    assert "CUSTOM_THERMOCLINE" in data.traits


def test_after_a_conflict_in_placement_the_same_is_reported(driver, stock, fake):
    """On a 409 Nova reads the tree again, with a new generation, and asks again at once."""
    first = _updated(driver)
    again = _updated(driver)
    assert again.inventory == first.inventory and again.traits == first.traits


def test_pressure_closes_the_host_and_says_so_once(driver, stock, fake, notices, monkeypatch):
    monkeypatch.setattr(driver_module, "available_mb", lambda: 300)
    for _ in range(2):
        data = _updated(driver)
        assert data.inventory["MEMORY_MB"]["total"] == data.inventory["MEMORY_MB"]["reserved"] == _HOST_MB
    assert [(priority, event, payload["pressure"]) for priority, event, payload in notices] == [("warn", "thermocline.pressure", 2)]
    monkeypatch.setattr(driver_module, "available_mb", lambda: 4000)
    assert _updated(driver).inventory["MEMORY_MB"]["reserved"] == 512
    assert notices[-1][2]["pressure"] == 0


def test_a_full_host_offers_what_is_given_out_and_no_more(driver, stock, fake, monkeypatch):
    """Placement would not let go of a server that is to be moved away from a host that offers less than it has given out."""
    given = {"aaaaaaaa-0000-4000-8000-000000000001": 700}
    monkeypatch.setattr(driver_module, "allocated_mb", given.get)
    monkeypatch.setattr(driver_module, "available_mb", lambda: 300)
    memory = _updated(driver).inventory["MEMORY_MB"]
    assert (memory["total"], memory["reserved"]) == (_HOST_MB, _HOST_MB - 700)
    given["aaaaaaaa-0000-4000-8000-000000000001"] = 9000
    memory = _updated(driver).inventory["MEMORY_MB"]
    assert (memory["total"], memory["reserved"]) == (9512, 512)


def test_an_offer_that_shrinks_stays_above_what_is_given_out(driver, stock, fake, monkeypatch):
    asked = []
    monkeypatch.setattr(driver_module, "allocated_mb", lambda provider: asked.append(provider) or 7700)
    assert _updated(driver).inventory["MEMORY_MB"]["total"] == _HOST_MB + 312 * 9 // 10
    assert not asked  # the host's one domain is far less than that
    fake.domains[UUID]["State"] = ("s", "detached")
    fake.domains[UUID]["MemoryBytes"] = ("t", 7600 * MIB)
    for _ in range(2):
        memory = _updated(driver).inventory["MEMORY_MB"]
        assert (memory["total"], memory["reserved"]) == (7700 + 512, 512)
    assert len(asked) == 2


def test_where_placement_does_not_say_the_host_is_closed_all_the_same(driver, stock, fake, monkeypatch):
    monkeypatch.setattr(driver_module, "allocated_mb", lambda provider: None)
    monkeypatch.setattr(driver_module, "available_mb", lambda: 300)
    memory = _updated(driver).inventory["MEMORY_MB"]
    assert memory["total"] == memory["reserved"] == _HOST_MB


def _warnings(caplog, text):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING and text in record.getMessage()]


def test_with_the_daemon_away_it_is_stock_nova_and_said_once(driver, stock, caplog, bus):
    for _ in range(3):
        data = _updated(driver)
        assert data.inventory["MEMORY_MB"] == _STOCK
        assert data.traits == set()
    assert len(_warnings(caplog, "Working as Nova's own libvirt driver")) == 1
    with FakeDaemon(bus.address, {UUID: dict(ATTACHED)}):
        assert _updated(driver).inventory["MEMORY_MB"]["total"] > _HOST_MB
    _updated(driver)
    assert len(_warnings(caplog, "Working as Nova's own libvirt driver")) == 2


def test_what_the_daemon_yielded_is_taken_back_when_it_goes(driver, stock, fake):
    tree = provider_tree.ProviderTree()
    tree.new_root(NODE, "aaaaaaaa-0000-4000-8000-000000000001", generation=1)
    assert _updated(driver, tree).inventory["MEMORY_MB"]["total"] > _HOST_MB
    fake.kill()
    data = _updated(driver, tree)
    assert data.inventory["MEMORY_MB"] == _STOCK and data.traits == set()


def test_after_the_daemon_was_away_its_next_figures_count_however_small_the_change(driver, stock, bus):
    assert _updated(driver).inventory["MEMORY_MB"]["total"] == _HOST_MB
    domains = {UUID: dict(ATTACHED)}
    with FakeDaemon(bus.address, domains):
        assert _updated(driver).inventory["MEMORY_MB"]["total"] == _HOST_MB + 280
        domains[UUID]["LimitBytes"] = ("t", 220 * MIB)
        assert _updated(driver).inventory["MEMORY_MB"]["total"] == _HOST_MB + 280
    _updated(driver)
    with FakeDaemon(bus.address, domains):
        assert _updated(driver).inventory["MEMORY_MB"]["total"] == _HOST_MB + 262


@pytest.mark.parametrize("break_it", [
    lambda bus, fake: fake.behaviour.update(GetManagedObjects=lambda *_: HANG),
    lambda bus, fake: bus.process.send_signal(signal.SIGSTOP),
    lambda bus, fake: bus.process.kill(),
    lambda bus, fake: fake.domains[UUID].update(UsedBytes=("s", "much")),
    lambda bus, fake: fake.behaviour.update(GetManagedObjects=lambda *_: ("s", ("none",)))],
    ids=["daemon hangs", "bus hangs", "bus killed", "wrong type", "wrong answer"])
def test_a_daemon_or_bus_that_is_ill_is_stock_nova(driver, stock, fake, bus, break_it):
    break_it(bus, fake)
    began = time.monotonic()
    assert _updated(driver).inventory["MEMORY_MB"] == _STOCK
    assert time.monotonic() - began < 2.0


def _guest(monkeypatch, change=lambda guest: None):
    guest = guest_config.LibvirtConfigGuest()
    guest.virt_type, guest.uuid, guest.name, guest.memory = "kvm", UUID, "n", 524288
    change(guest)
    monkeypatch.setattr(LibvirtDriver, "_get_guest_config", lambda *_, **__: guest)
    return guest


def test_the_domain_gets_its_metadata(driver, monkeypatch):
    _guest(monkeypatch)
    guest = driver._get_guest_config(_instance({"thermocline:limit": "200MiB", "thermocline:max_stall": "0.5%",
                                                "thermocline:min_resident": "64MiB", "thermocline:priority": "200"}), None, None, None)
    assert (f'<thermocline:overcommit xmlns:thermocline="{NAMESPACE}" limit="{200 * MIB}" max-stall="0.005" '
            f'min-resident="{64 * MIB}" priority="200"/>') in guest.to_xml()
    assert OvercommitMetadata.is_in(guest.to_xml())


@pytest.mark.parametrize("specs", [{}, {"thermocline:policy": "off"}, {"hw:cpu_policy": "shared"}])
def test_a_server_that_asks_for_nothing_is_its_parents(driver, monkeypatch, specs):
    _guest(monkeypatch)
    xml = driver._get_guest_config(_instance(specs), None, None, None).to_xml()
    assert NAMESPACE not in xml and not OvercommitMetadata.is_in(xml)


def _backing(**values):
    def change(guest):
        guest.membacking = guest_config.LibvirtConfigGuestMemoryBacking()
        for name, value in values.items():
            setattr(guest.membacking, name, value)
    return change


def _sev(guest):
    guest.launch_security = guest_config.LibvirtConfigGuestSEVLaunchSecurity()


def _realtime(guest):
    guest.cputune = guest_config.LibvirtConfigGuestCPUTune()
    guest.cputune.vcpusched.append(guest_config.LibvirtConfigGuestCPUTuneVCPUSched())


def _device(device):
    return lambda guest: guest.devices.append(device)


def _interface(kind):
    interface = guest_config.LibvirtConfigGuestInterface()
    interface.net_type = kind
    return _device(interface)


@pytest.mark.parametrize("change, reason", [
    (_sev, "encrypted"), (_backing(filesource=True), "file-backed"), (_backing(hugepages=[1]), "huge pages"),
    (_backing(sharedaccess=True), "shared"), (_backing(locked=True), "locked"), (_realtime, "realtime"),
    (_device(guest_config.LibvirtConfigGuestHostdevPCI()), "VFIO"), (_device(guest_config.LibvirtConfigGuestHostdevMDEV()), "VFIO"),
    (_interface("hostdev"), "VFIO"), (_interface("vdpa"), "VFIO")])
def test_what_cannot_be_overcommitted_is_left_alone_with_a_reason(driver, monkeypatch, notices, caplog, change, reason):
    guest = _guest(monkeypatch, change)
    assert driver._get_guest_config(_instance(LIMITED), None, None, None) is guest
    assert guest.metadata == []
    assert [(event, payload["server"]) for _, event, payload in notices] == [("thermocline.refused", UUID)]
    assert reason in notices[0][2]["reason"]
    assert len(_warnings(caplog, reason)) == 1


@pytest.mark.parametrize("change", [_backing(), _interface("bridge"), lambda guest: None])
def test_what_is_ordinary_is_overcommitted(driver, monkeypatch, change):
    guest = _guest(monkeypatch, change)
    driver._get_guest_config(_instance(LIMITED), None, None, None)
    assert len(guest.metadata) == 1


def test_a_bad_value_refuses_the_new_server(driver, notices):
    with pytest.raises(exception.InstanceUnacceptable) as refused:
        driver.prepare_for_spawn(_instance({"thermocline:limit": "9GiB"}))
    assert "thermocline:limit=9GiB: 9216 MiB is not between 32 MiB and the flavor's 512 MiB" in refused.value.format_message()
    assert notices[0][1] == "thermocline.refused"


def test_a_good_value_does_not(driver):
    driver.prepare_for_spawn(_instance(LIMITED, {"thermocline_max_stall": "1%"}))


def test_a_server_that_exists_boots_whatever_its_flavor_says(driver, monkeypatch, caplog):
    guest = _guest(monkeypatch)
    driver._get_guest_config(_instance({"thermocline:limit": "9GiB"}), None, None, None)
    assert guest.metadata == []
    assert any("9GiB" in record.getMessage() for record in caplog.records)


def test_a_resize_to_a_bad_flavor_is_rolled_back(driver, monkeypatch):
    moved = mock.Mock()
    monkeypatch.setattr(LibvirtDriver, "migrate_disk_and_power_off", moved)
    bad = _instance({"thermocline:policy": "limit"}).flavor
    with pytest.raises(exception.InstanceFaultRollback) as refused:
        driver.migrate_disk_and_power_off(None, _instance(LIMITED), "dest", bad, None)
    assert "needs thermocline:limit" in str(refused.value.inner_exception)
    assert not moved.called
    driver.migrate_disk_and_power_off(None, _instance(LIMITED), "dest", _instance(LIMITED).flavor, None)
    assert moved.called


def _start(driver, monkeypatch, instance):
    """As Nova does: the XML is made, then the guest is created from it."""
    guest = _guest(monkeypatch)
    xml = driver._get_guest_config(instance, None, None, None).to_xml()
    monkeypatch.setattr(LibvirtDriver, "_create_guest", lambda *_, **__: guest)
    assert driver._create_guest(None, xml, instance) is guest


def _wait_for(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_started_server_is_attached(driver, monkeypatch, fake, notices):
    _start(driver, monkeypatch, _instance({"thermocline:limit": "300MiB", "thermocline:max_stall": "1%", "thermocline:priority": "50"}))
    assert fake.wait_for_call("SetLimit") == ("SetLimit", UUID, (300 * MIB,))
    assert fake.wait_for_call("SetProactive") == ("SetProactive", UUID, (0.01, 0))
    assert fake.wait_for_call("SetPriority") == ("SetPriority", UUID, (50,))
    _wait_for(lambda: notices)
    assert notices == [("info", "thermocline.attach", {"server": UUID, "limit": 200 * MIB, "max_stall": 0.01, "min_resident": 0,
                                                     "priority": 50})]


def test_a_server_that_asks_for_nothing_is_not(driver, monkeypatch, fake):
    soon = mock.Mock()
    monkeypatch.setattr(driver, "_soon", soon)
    _start(driver, monkeypatch, _instance())
    assert not soon.called


def test_a_server_that_asks_no_longer_is_released(driver, monkeypatch, fake):
    """After a resize, or a rebuild from another image: the daemon remembers what was asked for before. The mark is in what Nova keeps of
    the server, and stays there."""
    instance = _instance(LIMITED)
    _start(driver, monkeypatch, instance)
    fake.wait_for_call("Attach")
    assert "system_metadata" in instance.obj_what_changed()
    instance.obj_reset_changes()
    instance.flavor = _instance().flavor
    _start(driver, monkeypatch, instance)
    fake.wait_for_call("Detach")


def test_a_server_that_is_to_be_left_alone_is_released(driver, monkeypatch, fake):
    _start(driver, monkeypatch, _instance({"thermocline:policy": "off"}))
    fake.wait_for_call("Detach")


def test_a_boot_does_not_wait_for_a_daemon_that_hangs(driver, monkeypatch, fake, notices):
    fake.behaviour["Attach"] = lambda *_: HANG
    began = time.monotonic()
    _start(driver, monkeypatch, _instance(LIMITED))
    assert time.monotonic() - began < 0.3
    fake.wait_for_call("Attach")
    _wait_for(lambda: notices)
    assert notices[0][1] == "thermocline.refused" and "within 1 s" in notices[0][2]["reason"]


def test_a_boot_succeeds_without_a_daemon(driver, monkeypatch, notices):
    _start(driver, monkeypatch, _instance(LIMITED))
    _wait_for(lambda: notices)
    assert notices[0][:2] == ("warn", "thermocline.refused")


def test_a_refusal_of_the_daemon_is_told(driver, monkeypatch, fake, notices):
    def refuse(_uuid, _body):
        raise Refusal("NotSupported", "its memory is locked")
    fake.behaviour["Attach"] = refuse
    _start(driver, monkeypatch, _instance(LIMITED))
    _wait_for(lambda: notices)
    assert notices == [("warn", "thermocline.refused", {"server": UUID, "reason": "NotSupported: its memory is locked"})]


def test_a_server_that_migrated_here_is_attached(driver, monkeypatch, fake):
    xml = f'<domain><metadata><t:overcommit xmlns:t="{NAMESPACE}" limit="1"/></metadata></domain>'
    monkeypatch.setattr(LibvirtDriver, "post_live_migration_at_destination", lambda *_, **__: None)
    monkeypatch.setattr(driver._host, "get_guest", lambda _instance: mock.Mock(get_xml_desc=lambda: xml))
    driver.post_live_migration_at_destination(None, _instance(LIMITED), None)
    fake.wait_for_call("Attach")


def test_a_notification_that_cannot_be_sent_stops_nothing(driver, monkeypatch, caplog):
    monkeypatch.setattr("nova.rpc.LEGACY_NOTIFIER", mock.Mock(prepare=mock.Mock(side_effect=RuntimeError("no RPC"))))
    with pytest.raises(exception.InstanceUnacceptable):
        driver.prepare_for_spawn(_instance({"thermocline:limit": "0"}))
    assert _warnings(caplog, "thermocline.refused could not be sent")


def test_a_live_migration_takes_the_metadata_along(driver, monkeypatch):
    """By Nova's own making of the domain's XML for the other host."""
    guest = _guest(monkeypatch)
    driver._get_guest_config(_instance(LIMITED), None, None, None)
    before = mock.Mock(get_xml_desc=lambda dump_migratable: guest.to_xml())
    xml = migration.get_updated_guest_xml(_instance(LIMITED), before, objects.LibvirtLiveMigrateData(
        graphics_listen_addr_vnc="0.0.0.0", graphics_listen_addr_spice="0.0.0.0", serial_listen_addr="", serial_listen_ports=[],
        bdms=[], target_connect_addr=None), mock.Mock())
    assert f'limit="{200 * MIB}"' in xml and OvercommitMetadata.is_in(xml)


def test_the_hosts_statistics_have_the_figures(driver, monkeypatch, fake):
    stock = {"memory_mb": 8000, "cpu_info": '{"arch": "x86_64"}'}
    monkeypatch.setattr(LibvirtDriver, "get_available_resource", lambda *_: dict(stock))
    other = UUID.replace("6695", "0000")
    fake.domains[other] = {**ATTACHED, "StallRatio": ("d", 0.01)}
    fake.domains[UUID.replace("6695", "1111")] = {**ATTACHED, "State": ("s", "detached")}
    figures = {"memory_mb": 1024, "resident_mb": 200, "staged_mb": 20, "cold_mb": 600, "store_mb": 160, "frozen_mb": 0, "used_mb": 384,
               "servers": 2, "stall_percent": 1.0}
    resource = driver.get_available_resource(NODE)
    assert resource["stats"] == {f"thermocline_{name}": value for name, value in figures.items()}
    assert json.loads(resource["cpu_info"]) == {"arch": "x86_64", "thermocline": figures}
    assert resource["memory_mb"] == 8000
    assert set(host_statistics.NAMES) == figures.keys()
    fake.kill()
    assert driver.get_available_resource(NODE) == stock


def test_a_host_under_lasting_pressure_has_servers_moved(driver, stock, fake, monkeypatch):
    mover = mock.Mock()
    driver._mover = mover
    monkeypatch.setattr(driver_module, "available_mb", lambda: 200)
    _updated(driver)
    assert not mover.relieve.called
    _updated(driver)
    assert mover.relieve.call_args[0][0].keys() == {UUID}
    assert not mover.rest.called
    monkeypatch.setattr(driver_module, "available_mb", lambda: 4000)
    _updated(driver)
    assert mover.rest.called and mover.relieve.call_count == 1


def test_by_default_nothing_is_moved_but_said(driver, stock, fake, notices, monkeypatch):
    monkeypatch.setattr(driver_module, "available_mb", lambda: 200)
    monkeypatch.setattr(objects.InstanceList, "get_uuids_by_host", lambda _context, _host: [UUID])
    monkeypatch.setattr(NovaApi, "live_migrate", mock.Mock(side_effect=AssertionError("a dry run")))
    for _ in range(3):
        _updated(driver)
    _wait_for(lambda: [event for _, event, _ in notices].count("thermocline.move"))
    assert notices[-1] == ("warn", "thermocline.move", {"host": nova.conf.CONF.host, "server": UUID, "sends_mb": 410, "frees_mb": 192,
                                                        "priority": 100, "outcome": "dry run", "reason": ""})


def test_the_hosts_budget_bounds_what_is_offered(driver, stock, fake):
    fake.budget = ("s", "7800MiB")
    assert _updated(driver).inventory["MEMORY_MB"]["total"] == 7800 + 312 * 9 // 10


def test_diagnostics_have_the_figures(driver, monkeypatch, fake):
    monkeypatch.setattr(LibvirtDriver, "get_diagnostics", lambda *_: {"memory": 524288})
    assert driver.get_diagnostics(_instance()) == {
        "memory": 524288, "thermocline_memory": 512 * 1024, "thermocline_resident": 100 * 1024, "thermocline_staged": 10 * 1024,
        "thermocline_cold": 300 * 1024, "thermocline_store": 80 * 1024, "thermocline_frozen": 0, "thermocline_used": 192 * 1024,
        "thermocline_limit": 200 * 1024, "thermocline_stall_ms": 7, "thermocline_stall_ratio": 0.002}
    details = mock.Mock()
    monkeypatch.setattr(LibvirtDriver, "get_instance_diagnostics", lambda *_: details)
    assert driver.get_instance_diagnostics(_instance()).memory_details.used == 192


@pytest.mark.parametrize("break_it", [
    lambda fake: fake.kill(), lambda fake: fake.domains[UUID].update(State=("s", "detached")), lambda fake: fake.domains.clear(),
    lambda fake: fake.domains[UUID].update(ColdBytes=("b", True)), lambda fake: fake.behaviour.update(GetAll=lambda *_: HANG)],
    ids=["killed", "detached", "unknown", "wrong type", "hangs"])
def test_diagnostics_are_the_parents_where_there_are_no_figures(driver, monkeypatch, fake, break_it):
    monkeypatch.setattr(LibvirtDriver, "get_diagnostics", lambda *_: {"memory": 524288})
    monkeypatch.setattr(LibvirtDriver, "get_instance_diagnostics", lambda *_: "parent's")
    break_it(fake)
    assert driver.get_diagnostics(_instance()) == {"memory": 524288}
    assert driver.get_instance_diagnostics(_instance()) == "parent's"


def test_the_metadata_is_only_what_is_in_the_metadata():
    named = f"<domain><metadata><nova><name>{NAMESPACE}</name></nova></metadata></domain>"
    assert not OvercommitMetadata.is_in(named)
    assert OvercommitMetadata(Settings()).to_xml(pretty_print=False) == f'<thermocline:overcommit xmlns:thermocline="{NAMESPACE}"/>'
