# SPDX-License-Identifier: Apache-2.0
import pytest

from minicloud.configuration import Options, write_configuration
from minicloud.errors import CloudError
from minicloud.state import State


def test_a_folder_with_something_else_in_it_is_left_as_it_is(tmp_path):
    (tmp_path / "letter").write_text("dear")
    with pytest.raises(CloudError, match="is not empty and no cloud's; choose another folder with --state"):
        State(tmp_path).make()
    with pytest.raises(CloudError, match="no cloud's folder"):
        State(tmp_path).remove()
    assert [file.name for file in tmp_path.iterdir()] == ["letter"]


def test_no_cloud_is_said(tmp_path):
    with pytest.raises(CloudError, match="there is no cloud in .*; bring one up"):
        State(tmp_path / "none").read()


def test_a_first_start_that_did_not_end_well_begins_anew(tmp_path):
    state = State(tmp_path / "cloud")
    state.make()
    (state.root / "mysql/half").touch()
    before = state.password
    state.make()
    assert not (state.root / "mysql/half").exists() and state.password != before


def test_a_cloud_that_was_ready_is_kept(tmp_path):
    state = State(tmp_path / "cloud")
    state.make()
    state.remember(ready=True)
    (state.root / "mysql/table").touch()
    before = state.password
    state.make()
    assert (state.root / "mysql/table").exists() and state.password == before


def test_only_root_reads_the_password(tmp_path):
    state = State(tmp_path / "cloud")
    state.make()
    assert (state.root / "minicloud.json").stat().st_mode & 0o777 == 0o600


def test_the_configuration_has_no_blanks_left(tmp_path):
    state = State(tmp_path / "cloud")
    state.make()
    write_configuration(state, Options(driver="thermocline", reserved_mb=700, thermocline=("timeout = 3",)))
    for file in state.etc.rglob("*.c*nf"):
        assert "@STATE@" not in file.read_text() and "@PASSWORD@" not in file.read_text(), file
    nova = (state.etc / "nova/nova.conf").read_text()
    assert "compute_driver = thermocline.ThermoclineDriver\n" in nova
    assert "reserved_host_memory_mb = 700\n" in nova
    assert nova.endswith("[thermocline]\ntimeout = 3\n")
