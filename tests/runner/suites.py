# SPDX-License-Identifier: Apache-2.0
"""The suites of ./test: each runs its own tool and returns a Tally."""

import os
import shutil
import signal
import subprocess
import sys

from testbed.paths import BUILD, ROOT

from .results import Tally, read_junit, tally

_RESULTS = BUILD / "test-results"


def prepare_results():
    shutil.rmtree(_RESULTS, ignore_errors=True)
    (_RESULTS / "gtest").mkdir(parents=True)


def _run(command, environment=None):
    """Like subprocess.run, but a signal to us reaches the child too, and we wait until it has cleaned up."""
    child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, env={**os.environ, **(environment or {})})

    def forward(number, _frame):
        child.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_unit(expression, skip_fails):
    """Everything that ctest knows. A GoogleTest program counts each of its cases."""
    junit = _RESULTS / "ctest.xml"
    command = ["ctest", "--test-dir", str(BUILD / "release"), "--output-on-failure", "--progress", "--no-tests=ignore",
               "--output-junit", str(junit), "-j", str(os.cpu_count() or 1)]
    if expression:
        command += ["-R", expression]
    _run(command, {"GTEST_OUTPUT": f"xml:{_RESULTS / 'gtest'}/"})
    if not junit.exists():
        broken = Tally()
        broken.fail("ctest", "ctest left no results")
        return broken
    total = Tally()
    for program, (outcome, text) in read_junit(junit).items():
        name = program.split(".")[-1]
        own = _RESULTS / "gtest" / f"{name}.xml"
        part = tally(read_junit(own), skip_fails) if own.exists() else tally({name: (outcome, text)}, skip_fails)
        if outcome == "failed" and not part.failed:
            part.fail(name, text)  # it crashed, or was found at fault after its last case
        total += part
    return total


def run_pytest(name, folders, expression, skip_fails):
    junit = _RESULTS / f"{name}.xml"
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "tests/pytest.ini"), f"--junitxml={junit}", "-v",
               *(str(ROOT / "tests" / folder) for folder in folders)]
    if expression:
        command += ["-k", expression]
    code = _run(command)
    total = tally(read_junit(junit), skip_fails) if junit.exists() else Tally()
    if code not in (0, 5) and not total.failed:  # 5: nothing selected
        total.fail(f"pytest {name}", f"pytest ended with code {code}")
    return total
