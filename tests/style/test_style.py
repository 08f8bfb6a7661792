# SPDX-License-Identifier: Apache-2.0
"""What every file of the project keeps to. Looks at what git tracks or would track."""

import subprocess

import pytest

from testbed.paths import ROOT

_C_FAMILY = (".c", ".cpp", ".h")
# Formats that have no comments, and texts for people.
_WITHOUT_SPDX = (".md", ".json", "LICENSE", ".gitignore")
_CORPUS = "tests/fuzz/corpus/"  # a line more would be another input


def _files(*suffixes):
    listing = subprocess.run(["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
                             capture_output=True, text=True, check=True).stdout
    names = (name for name in listing.split("\0") if name and (ROOT / name).is_file())
    return sorted(name for name in names if not suffixes or name.endswith(suffixes))


def test_clang_format_holds():
    result = subprocess.run(["clang-format", "--dry-run", "--Werror", *_files(*_C_FAMILY)], cwd=ROOT,
                            capture_output=True, text=True, check=False)
    wrong = sorted({line.split(":", 1)[0] for line in result.stderr.splitlines() if "error:" in line})
    assert result.returncode == 0, f"run clang-format -i on: {' '.join(wrong)}"


def test_every_file_has_its_spdx_line():
    without = []
    for name in _files():
        head = (ROOT / name).read_bytes()[:400]
        if not name.endswith(_WITHOUT_SPDX) and not name.startswith(_CORPUS) and b"SPDX-License-Identifier: Apache-2.0" not in head:
            without.append(name)
    assert not without


def test_no_file_is_left_unfinished():
    # Spelled in two parts, or this file would be one.
    marks = [b"TO" + b"DO", b"FIX" + b"ME", b"<<<<" + b"<<<"]
    assert not [name for name in _files() if any(mark in (ROOT / name).read_bytes() for mark in marks)]


@pytest.mark.parametrize("script", [name for name in _files() if (ROOT / name).read_bytes().startswith(b"#!/bin/bash")])
def test_shell_scripts_parse_and_stop_at_errors(script):
    assert subprocess.run(["bash", "-n", script], cwd=ROOT, check=False).returncode == 0
    assert "set -euo pipefail" in (ROOT / script).read_text()


def test_every_dependency_has_kinds_and_a_reason():
    for line in (ROOT / "packaging/dependencies.list").read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        package, kinds, reason = (part.strip() for part in line.split("|"))
        assert package and set(kinds.split()) <= {"build", "run", "test", "fuzz", "cloud"} and kinds and reason, line
