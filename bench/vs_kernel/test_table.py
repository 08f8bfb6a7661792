# SPDX-License-Identifier: Apache-2.0
from vs_kernel.results import make_bars, make_row
from vs_kernel.table import bar_lines, format_value, table


def test_values_have_their_units():
    assert format_value(None, "s") == "-"
    assert format_value(12345, "accesses/s") == "12.3 k/s"
    assert format_value(4.256, "us") == "4.26 us" and format_value(3 << 20, "bytes") == "3.0 MiB"
    assert format_value(6.0, "s", at_least=True) == "> 6.00 s"


def test_every_side_has_its_column_even_without_a_figure():
    row = make_row("process", "random", {"ours": [{"value": 3000, "p99_us": 7.0}], "a": [{"error": "x"}], "b": [{"value": 1500}]})
    lines = table([row])
    assert lines[0].split() == ["subject", "workload", "ours", "a", "b", "ours/best"]
    assert lines[2].split() == ["process", "random", "3.0", "k/s", "-", "1.5", "k/s", "2x"]
    assert lines[3].split() == ["p99", "7", "us", "-", "-"]


def test_a_tiny_ratio_is_not_shown_as_none():
    row = make_row("process", "hot-cold", {"ours": [{"value": 14}], "a": [{"value": 7000}]})
    assert "0.002x" in table([row])[2]


def test_bars_say_whether_they_are_met():
    rows = [make_row("process", "random", {"ours": [{"value": 3}], "a": [{"value": 1}]})]
    assert [line.split()[-1] for line in bar_lines(make_bars(rows))] == ["met", "met"]
    failed = [make_row("process", "random", {"ours": [{"error": "x"}], "a": [{"value": 1}]})]
    assert all(line.endswith("NOT MET") and "got       -" in line for line in bar_lines(make_bars(failed)))


def test_rows_of_other_sides_have_a_table_of_their_own():
    rows = [make_row("process", "random", {"ours": [{"value": 3}], "a": [{"value": 1}]}),
            make_row("process", "proactive-cold", {"ours": [{"value": 3, "cold_share": 0.97}], "without": [{"value": 3}]})]
    lines = table(rows)
    assert [line.split()[2:4] for line in lines if line.startswith("subject")] == [["ours", "a"], ["ours", "without"]]
    assert lines[-1].split() == ["cold", "gone", "97.0%", "-"]
