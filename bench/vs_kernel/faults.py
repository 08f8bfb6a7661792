# SPDX-License-Identifier: Apache-2.0
"""What one fault costs in our engine, beside a bare loop that answers it with UFFDIO_COPY, all on one CPU: engine_bench measures
them in turns; here they become rows."""

import json
import subprocess
import tempfile
from pathlib import Path

from testbed.errors import TestbedError

from .results import make_row

FLOOR = "raw"
_FLOOR_NAME = "raw UFFDIO_COPY fault (floor)"
_NAMES = {"staged-fault": "staged fault, 4 KiB", "cold-fault": "cold fault, 4 KiB"}
_MOST_SECONDS = 300


def measure(program):
    """{name of engine_bench: microseconds}"""
    names = "|".join(name.replace("(", r"\(").replace(")", r"\)") for name in (_FLOOR_NAME, *_NAMES.values()))
    with tempfile.TemporaryDirectory(prefix="thermocline-bench-") as directory:
        path = Path(directory) / "engine.json"
        try:
            result = subprocess.run([program, f"--benchmark_filter=^({names})(/|$)", "--benchmark_enable_random_interleaving=true",
                                     "--json", path], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                    stderr=subprocess.PIPE, text=True, timeout=_MOST_SECONDS, check=False)
        except FileNotFoundError:
            raise TestbedError(f"there is no {program}; build target engine_bench, or leave out --no-build") from None
        except subprocess.TimeoutExpired:
            raise TestbedError(f"{program} takes more than {_MOST_SECONDS} s") from None
        if result.returncode or not path.exists():
            raise TestbedError(f"{program} failed: {result.stderr.strip()[-500:] or f'exit code {result.returncode}'}")
        return json.loads(path.read_text(encoding="utf-8"))["microseconds"]


def rows(microseconds):
    """`microseconds`: what measure() returned, or its error as {"error": text}."""
    def measurement(name):
        if name in microseconds:
            return [{"value": microseconds[name]}]
        return [{"error": microseconds.get("error", f"engine_bench has no figure for {name}")}]

    return [make_row("engine", row, {"ours": measurement(name), FLOOR: measurement(_FLOOR_NAME)}, lower_is_better=True, unit="us")
            for row, name in _NAMES.items()]
