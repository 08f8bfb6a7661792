# SPDX-License-Identifier: Apache-2.0
import io
import re

from demo.live_table import LiveTable
from demo.terminal import Terminal
from testbed.sizes import MIB

_FIGURES = {"ResidentBytes": 96 * MIB, "StagedBytes": 8 * MIB, "ColdBytes": 64 * MIB, "StoreBytes": 32 * MIB,
            "UsedBytes": 136 * MIB, "LimitBytes": 128 * MIB, "LimitMet": False, "Faults": 7, "StallRatio": 0.25}


class _Screen(io.StringIO):
    def isatty(self):
        return True

    def shown(self):
        """What a terminal shows of it: understands cursor up, erase line, carriage return and colours."""
        lines, row = [""], 0
        for up, erase, newline, text in re.findall(r"\x1b\[(\d+)A|(\r?\x1b\[K)|(\n)|([^\x1b\r\n]+)",
                                                   re.sub(r"\x1b\[[\d;]*m", "", self.getvalue())):
            if up:
                row -= int(up)
            elif erase:
                lines[row] = ""
            elif newline:
                row += 1
                lines += [""] * (row + 1 - len(lines))
            elif text:
                lines[row] += text
        return lines


def test_a_terminal_sees_one_table_that_changes(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    screen = _Screen()
    terminal = Terminal(screen)
    table = LiveTable(terminal, 256 * MIB)
    terminal.step("begin")
    table.show("first", _FIGURES)
    table.show("second", {**_FIGURES, "Faults": 9, "LimitMet": True})
    terminal.say("end")
    shown = screen.shown()
    assert shown[0] == "==> begin" and shown[-2:] == ["end", ""]
    assert len(shown) == 9 and not any("first" in line for line in shown)
    assert any("second" in line for line in shown) and any("met" in line for line in shown)


def test_a_file_gets_plain_lines():
    text = io.StringIO()
    table = LiveTable(Terminal(text), 256 * MIB)
    table.show("first", _FIGURES)
    table.show("second", _FIGURES)
    assert "\x1b" not in text.getvalue()
    lines = text.getvalue().splitlines()
    assert len(lines) == 3 and lines[0].split()[0] == "time" and "96.0 MiB" in lines[1]
