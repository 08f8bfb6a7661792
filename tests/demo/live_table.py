# SPDX-License-Identifier: Apache-2.0
"""The live view of one attached guest: drawn again at each change on a terminal, one line a second elsewhere."""

import time

from testbed.sizes import format_size

_BAR = 40


class LiveTable:
    def __init__(self, terminal, memory_bytes):
        self._terminal = terminal
        self._memory = memory_bytes
        self._begin = time.monotonic()
        self._last = None  # (time, faults)
        self._head_shown = False

    def show(self, phase, figures):
        now = time.monotonic()
        rate = self._fault_rate(now, figures["Faults"])
        if self._terminal.live:
            self._terminal.block(self._lines(phase, figures, now - self._begin, rate))
        else:
            self._plain(phase, figures, now - self._begin, rate)

    def _fault_rate(self, now, faults):
        before, self._last = self._last, (now, faults)
        if before is None or now - before[0] < 0.05:
            return 0.0
        return (faults - before[1]) / (now - before[0])

    def _lines(self, phase, figures, seconds, rate):
        terminal = self._terminal
        used, limit = figures["UsedBytes"], figures["LimitBytes"]
        met = "" if not limit else terminal.good("met") if figures["LimitMet"] else terminal.bad("squeezing")
        store = figures["StoreBytes"]
        ratio = f"in {format_size(store)}, {figures['ColdBytes'] / store:.1f}x" if store else ""
        return [
            f"    {terminal.bold(f'{phase:<34}')} {seconds:6.1f} s",
            f"    in RAM      {format_size(figures['ResidentBytes']):>10}  {self._bar(figures)}",
            f"    set aside   {format_size(figures['StagedBytes']):>10}",
            f"    compressed  {format_size(figures['ColdBytes']):>10}  {ratio}",
            f"    used        {format_size(used):>10}  limit {format_size(limit) if limit else 'none'} {met}",
            f"    faults      {figures['Faults']:>10,}  {rate:,.0f}/s, stall {figures['StallRatio'] * 100:.1f} %",
        ]

    def _bar(self, figures):
        cells = [round(figures[name] * _BAR / self._memory) for name in ("ResidentBytes", "StagedBytes", "StoreBytes")]
        text = "█" * cells[0] + "▓" * cells[1] + "▒" * cells[2]
        return text[:_BAR].ljust(_BAR, "·")

    def _plain(self, phase, figures, seconds, rate):
        if not self._head_shown:
            self._head_shown = True
            self._terminal.say(f"{'time':>7}  {'in RAM':>10} {'set aside':>10} {'compressed':>10} {'store':>10} "
                               f"{'used':>10} {'limit':>10} {'faults':>9} {'faults/s':>9} {'stall':>6}  phase")
        sizes = " ".join(f"{format_size(figures[name]):>10}" for name in
                         ("ResidentBytes", "StagedBytes", "ColdBytes", "StoreBytes", "UsedBytes"))
        limit = format_size(figures["LimitBytes"]) if figures["LimitBytes"] else "none"
        self._terminal.say(f"{seconds:6.1f}s  {sizes} {limit:>10} {figures['Faults']:>9} {rate:>9.0f} "
                           f"{figures['StallRatio'] * 100:>5.1f}%  {phase}")
