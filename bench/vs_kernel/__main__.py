# SPDX-License-Identifier: Apache-2.0
"""Measures, prints, draws and writes the results. bench/vs-kernel --help says how."""

import contextlib
import json
import sys

from demo.terminal import Terminal
from testbed.errors import TestbedError
from testbed.interrupts import Interrupted, shield, signals_as_exceptions
from testbed.run_dir import run_directory
from testbed.sizes import format_size

from .backed_memory import backed_memory
from .machine import describe_machine
from .options import parse_arguments
from .plots import draw_all
from .progress import Progress
from .plan import LINUX_GUEST, OURS, expected_seconds, sizes_of
from .results import make_bars, sound
from .run import Run
from .table import bar_lines, table


def _measure(options, terminal):
    with contextlib.ExitStack() as stack:
        stack.enter_context(signals_as_exceptions())
        try:
            stack.enter_context(backed_memory())
            run = Run(options, Progress(terminal, Run.count(options)), stack.enter_context(run_directory()))
            run.go()
            return run
        finally:
            shield()


def _document(options, machine, run):
    rows = run.rows()
    return {
        "machine": machine,
        "settings": {"total_bytes": options.sizes.total, "working_set_bytes": options.sizes.working_set,
                     "linux_guest_total_bytes": sizes_of(LINUX_GUEST, options.sizes).total,
                     "rounds": options.rounds, "huge_pages": not options.small_pages, "short": options.short},
        "data": run.data,
        "rows": rows,
        "bars": make_bars(rows),
    }


def _show(document, terminal):
    def paint(good, text):
        return terminal.good(text) if good else terminal.bad(text)

    terminal.say()
    for line in table(document["rows"], paint):
        terminal.say(line)
    notes = [f"{row['subject']} {row['workload']}: {note}" for row in document["rows"] for note in row["notes"]]
    for note in [""] * bool(notes) + notes:
        terminal.say(note)
    terminal.say()
    for line in bar_lines(document["bars"], paint):
        terminal.say(line)


def main():
    options = parse_arguments()
    terminal = Terminal()
    machine = describe_machine()
    sizes = options.sizes
    terminal.step(f"{Run.count(options)} measurements: each side takes {format_size(sizes.total)} of the host for a working set "
                  f"of {format_size(sizes.working_set)}; about "
                  f"{expected_seconds(options.comparisons, options.faults, options.durations) / 60:.0f} min on a quiet machine")
    try:
        run = _measure(options, terminal)
    except Interrupted as interrupted:
        terminal.say("interrupted; everything is put back")
        return interrupted.exit_code
    except TestbedError as error:
        terminal.say(terminal.bad(f"failed: {error}"))
        return 1
    document = _document(options, machine, run)
    sides = [OURS, *options.rivals]
    _show(document, terminal)
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "vs-kernel.json"
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    drawn = draw_all(document, sides, options.output)
    terminal.say(f"\n{path}, and {len(drawn)} plots as .svg and .png")
    return 0 if sound(document["rows"]) else 1


if __name__ == "__main__":
    sys.exit(main())
