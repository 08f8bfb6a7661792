# SPDX-License-Identifier: Apache-2.0
import pytest

from testbed.errors import TestbedError
from vs_kernel.faults import measure, rows


def test_rows_compare_with_the_raw_fault():
    staged, cold = rows({"raw UFFDIO_COPY fault (floor)": 4.0, "staged fault, 4 KiB": 5.0, "cold fault, 4 KiB": 8.0})
    assert (staged["ours"], staged["rivals"], staged["ratio_to_best"], staged["unit"]) == (5.0, {"raw": 4.0}, 0.8, "us")
    assert cold["ratio_to_best"] == 0.5


def test_a_failure_is_a_row_without_a_figure():
    staged, _cold = rows({"error": "cannot attach"})
    assert staged["ours"] is None and "cannot attach" in staged["notes"][0]


def test_a_missing_program_says_what_to_do(tmp_path):
    with pytest.raises(TestbedError, match="build target engine_bench"):
        measure(tmp_path / "engine_bench")
