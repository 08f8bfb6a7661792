# SPDX-License-Identifier: Apache-2.0
"""What Placement has given out, and an inventory that keeps it."""

from unittest import mock

import pytest
from nova.scheduler.client import report
from thermocline_nova.allocations import allocated_mb, keep

_PROVIDER = "aaaaaaaa-0000-4000-8000-000000000001"


def _client(monkeypatch, **behaviour):
    client = mock.Mock()
    client.get_allocations_for_resource_provider.configure_mock(**behaviour)
    monkeypatch.setattr(report, "report_client_singleton", lambda: client)
    return client.get_allocations_for_resource_provider


def test_all_consumers_count(monkeypatch):
    found = report.ProviderAllocInfo(allocations={"server": {"resources": {"MEMORY_MB": 512, "VCPU": 1}},
                                                  "migration": {"resources": {"MEMORY_MB": 128}}, "volume": {"resources": {"DISK_GB": 1}}})
    ask = _client(monkeypatch, return_value=found)
    assert allocated_mb(_PROVIDER) == 640
    assert ask.call_args[0][1] == _PROVIDER


def test_no_answer_is_no_figure(monkeypatch, caplog):
    _client(monkeypatch, side_effect=OSError("placement is away"))
    assert allocated_mb(_PROVIDER) is None
    assert "placement is away" in caplog.text


@pytest.mark.parametrize("total, reserved, ratio, allocated, full, expected", [
    (8000, 512, 1.0, 0, False, (8000, 512)),
    (8000, 512, 1.0, 7488, False, (8000, 512)),
    (8000, 512, 1.0, 7489, False, (8001, 512)),
    (8000, 512, 1.0, 0, True, (8000, 8000)),
    (8000, 512, 1.0, 640, True, (8000, 7360)),
    (8000, 512, 1.0, 9000, True, (9512, 512)),
    (8000, 512, 1.5, 1000, True, (8000, 7333)),
])
def test_what_is_given_out_fits(total, reserved, ratio, allocated, full, expected):
    memory = {"total": total, "reserved": reserved, "allocation_ratio": ratio}
    keep(memory, allocated, full)
    assert (memory["total"], memory["reserved"]) == expected
    assert (memory["total"] - memory["reserved"]) * ratio >= allocated
