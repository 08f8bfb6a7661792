# SPDX-License-Identifier: Apache-2.0
"""Counts test results from JUnit-like XML files. Plain data."""

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field


@dataclass
class Tally:
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    failures: list = field(default_factory=list)  # (name, text)

    def __add__(self, other):
        return Tally(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped,
                     self.failures + other.failures)

    def fail(self, name, text):
        self.failed += 1
        self.failures.append((name, text))


def read_junit(path):
    """pytest's and ctest's --junit, and GoogleTest's own XML: {suite.case: (outcome, text)}."""
    found = {}
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        name = ".".join(part for part in (case.get("classname"), case.get("name")) if part)
        problem = next((child for child in case if child.tag in ("failure", "error")), None)
        if problem is not None:
            output = case.findtext("system-out") or ""
            found[name] = ("failed", problem.text or problem.get("message") or output)
        elif case.find("skipped") is not None or case.get("result") == "skipped" or case.get("status") in ("notrun", "disabled"):
            found[name] = ("skipped", "")
        else:
            found[name] = ("passed", "")
    return found


def tally(cases, skip_fails):
    total = Tally()
    for name, (outcome, text) in cases.items():
        if outcome == "failed":
            total.fail(name, text)
        elif outcome == "skipped" and skip_fails:
            total.fail(name, "skipped, which CI does not allow")
        elif outcome == "skipped":
            total.skipped += 1
        else:
            total.passed += 1
    return total
