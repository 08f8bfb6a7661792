# SPDX-License-Identifier: Apache-2.0
"""What Prometheus reads is what D-Bus says, and the dashboard asks for nothing else."""

import json
import re
import socket
import urllib.error
import urllib.request

import pytest

from testbed.deadline import Deadline
from testbed.paths import ROOT
from testbed.sizes import MIB
from testbed.thermocline_client import iterate

_GAUGES = {"memory_bytes": "MemoryBytes", "resident_bytes": "ResidentBytes", "staged_bytes": "StagedBytes",
           "cold_bytes": "ColdBytes", "frozen_bytes": "FrozenBytes", "store_bytes": "StoreBytes", "file_bytes": "FileBytes",
           "metadata_bytes": "MetadataBytes", "used_bytes": "UsedBytes", "limit_bytes": "LimitBytes", "limit_met": "LimitMet",
           "allotment_bytes": "AllotmentBytes", "priority": "Priority", "evicted_pages_total": "EvictedPages",
           "prefetched_pages_total": "PrefetchedPages"}
_FAULTS = {"staged": "StagedFaults", "cold": "ColdFaults", "frozen": "FrozenFaults", "zero": "ZeroFaults"}


def _free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def _scrape(port):
    """{(name, frozenset of labels): value}"""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    values = {}
    for line in text.splitlines():
        match = re.fullmatch(r'([a-z_]+)(?:\{(.*)\})? (\S+)', line)
        if match:
            labels = frozenset(re.findall(r'(\w+)="([^"]*)"', match[2] or ""))
            values[match[1], labels] = float(match[3])
    return values


@pytest.fixture
def port():
    return _free_port()


def test_a_scrape_says_what_the_bus_says(thermocline_with, guest, port):
    thermocline = thermocline_with("--metrics", str(port))
    guest.fill(96 * MIB, seed=61)
    domain = thermocline.attached(guest, limit=112 * MIB)
    of_guest = {("domain", guest.name), ("uuid", guest.uuid)}

    def differences():
        """A guest at rest changes little: some moment has the same figures on both ways."""
        figures = domain.figures()
        scraped = _scrape(port)
        found = {}
        for name, on_bus in _GAUGES.items():
            found[name] = (scraped["thermocline_domain_" + name, frozenset(of_guest)], float(figures[on_bus]))
        for kind, on_bus in _FAULTS.items():
            found[kind] = (scraped["thermocline_domain_faults_total", frozenset(of_guest | {("kind", kind)})],
                           float(figures[on_bus]))
        return {name: pair for name, pair in found.items() if pair[0] != pair[1]}

    deadline = Deadline(60)
    while left := differences():
        assert not deadline.over, left
        iterate(Deadline(0.2))
    scraped = _scrape(port)
    assert scraped["thermocline_domain_attached", frozenset(of_guest)] == 1
    assert scraped["thermocline_domain_cold_bytes", frozenset(of_guest)] > 0
    assert scraped["thermocline_hypervisor_connected", frozenset()] == 1
    assert scraped["thermocline_domain_stall_seconds_total", frozenset(of_guest)] <= \
        domain.figures()["StallNanoseconds"] / 1e9 + 1e-6

    dashboard = json.loads((ROOT / "docs/grafana-dashboard.json").read_text())
    asked = {name for panel in dashboard["panels"] for target in panel["targets"]
             for name in re.findall(r"thermocline_\w+", target["expr"])}
    assert asked and asked <= {name for name, _labels in scraped}
    domain.detach()


def test_nothing_listens_unless_it_is_told_to(thermocline, port):
    with pytest.raises(urllib.error.URLError):
        _scrape(port)


def test_a_port_that_is_taken_ends_the_daemon(thermocline):
    thermocline.daemon.end()
    with socket.create_server(("127.0.0.1", 0)) as server:
        thermocline.daemon.options = ["--metrics", str(server.getsockname()[1])]
        code, said = thermocline.daemon.run_to_end()
    assert code == 1 and "metrics cannot be served at 127.0.0.1" in said
    thermocline.daemon.options = ["--metrics", "nowhere"]
    assert thermocline.daemon.run_to_end()[0] == 2
    thermocline.daemon.options = []
