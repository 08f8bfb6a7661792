# SPDX-License-Identifier: Apache-2.0
import pytest

from vs_kernel.host_file import changed, meminfo_bytes


def test_a_changed_file_is_put_back_even_after_an_error(tmp_path):
    file = tmp_path / "enabled"
    file.write_text("N\n")
    with pytest.raises(ZeroDivisionError), changed(file, "Y"):
        assert file.read_text() == "Y"
        1 / 0  # pylint: disable=pointless-statement
    assert file.read_text() == "N"


def test_meminfo_is_in_bytes():
    assert meminfo_bytes("MemTotal") > 1 << 27
    assert meminfo_bytes("NoSuchField") == 0
