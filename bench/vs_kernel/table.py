# SPDX-License-Identifier: Apache-2.0
"""The results as text."""

from testbed.sizes import format_size


def format_value(value, unit, at_least=False):
    if value is None:
        return "-"
    text = f"{value:.2f} s" if unit == "s" else f"{value / 1000:,.1f} k/s"
    return f"> {text}" if at_least else text


def _cell(row, side, value):
    text = format_value(value, row["unit"], side in row["at_least"])
    return f"({text})" if side in row["given_more"] else text  # not compared


def table(rows, sides, paint=lambda good, text: text):
    """Lines: one per row with every side's value and its p99 below."""
    width = max([len(side) for side in sides] + [13])
    head = f"{'subject':<9}{'workload':<12}" + "".join(f"{side:>{width + 2}}" for side in sides) + f"{'ours/best':>11}"
    lines = [head, "-" * len(head)]
    for row in rows:
        values = {"ours": row["ours"], **row["rivals"]}
        cells = "".join(f"{_cell(row, side, values.get(side)):>{width + 2}}" for side in sides)
        times = row["ratio_to_best"]
        verdict = f"{'-':>11}" if times is None else paint(times >= 1.25, f"{times:>10.3g}x")
        lines.append(f"{row['subject']:<9}{row['workload']:<12}{cells}{verdict}")
        for label, key, show in (("p99", "p99_us", lambda value: f"{value:,.0f} us"),
                                 ("uses", "used_bytes", format_size)):
            if key in row:
                found = "".join(f"{show(row[key][side]) if row[key].get(side) is not None else '-':>{width + 2}}" for side in sides)
                lines.append(f"{'':<9}  {label:<10}{found}")
    return lines


def bar_lines(bars, paint=lambda good, text: text):
    return [f"{bar['name']:<44} want >= {bar['want']:<5g} got "
            f"{'-' if bar['got'] is None else format(bar['got'], '.2f'):>7}  {paint(bar['met'], 'met' if bar['met'] else 'NOT MET')}"
            for bar in bars]
