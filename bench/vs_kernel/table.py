# SPDX-License-Identifier: Apache-2.0
"""The results as text."""

from testbed.sizes import format_size

from .plan import OURS
from .results import wanted


def format_value(value, unit, at_least=False):
    if value is None:
        return "-"
    if unit in ("s", "us"):
        text = f"{value:.2f} {unit}"
    else:
        text = format_size(value) if unit == "bytes" else f"{value / 1000:,.1f} k/s"
    return f"> {text}" if at_least else text


def _cell(row, side, value):
    text = format_value(value, row["unit"], side in row["at_least"])
    return f"({text})" if side in row["given_more"] else text  # not compared


def table(rows, paint=lambda good, text: text):
    """Lines: rows of the same sides together, each with every side's value and its p99 below."""
    lines = []
    for sides in dict.fromkeys((OURS, *row["rivals"]) for row in rows):
        lines += [""] * bool(lines) + _table_of(sides, [row for row in rows if (OURS, *row["rivals"]) == sides], paint)
    return lines


def _table_of(sides, rows, paint):
    width = max([len(side) for side in sides] + [13])
    head = f"{'subject':<13}{'workload':<16}" + "".join(f"{side:>{width + 2}}" for side in sides) + f"{'ours/best':>11}"
    lines = [head, "-" * len(head)]
    for row in rows:
        values = {OURS: row["ours"], **row["rivals"]}
        cells = "".join(f"{_cell(row, side, values.get(side)):>{width + 2}}" for side in sides)
        times = row["ratio_to_best"]
        verdict = f"{'-':>11}" if times is None else paint(times >= wanted(row), f"{times:>10.3g}x")
        lines.append(f"{row['subject']:<13}{row['workload']:<16}{cells}{verdict}")
        for label, key, show in (("p99", "p99_us", lambda value: f"{value:,.2f} us" if value < 1 else f"{value:,.0f} us"),
                                 ("uses", "used_bytes", format_size),
                                 ("cold gone", "cold_share", lambda value: f"{value:.1%}"),
                                 ("compressible", "cold_share_of_compressible", lambda value: f"{value:.1%}"),
                                 ("95 % of that", "cold_seconds", lambda value: f"{value:.0f} s")):
            if key in row:
                found = "".join(f"{show(row[key][side]) if row[key].get(side) is not None else '-':>{width + 2}}" for side in sides)
                lines.append(f"{'':<13}  {label:<14}{found}")
    return lines


def bar_lines(bars, paint=lambda good, text: text):
    width = max((len(bar["name"]) for bar in bars), default=0)
    return [f"{bar['name']:<{width}} want {'<=' if bar['at_most'] else '>='} {bar['want']:<5g} got "
            f"{'-' if bar['got'] is None else format(bar['got'], '.3f'):>7}  {paint(bar['met'], 'met' if bar['met'] else 'NOT MET')}"
            for bar in bars]
