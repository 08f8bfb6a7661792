# SPDX-License-Identifier: Apache-2.0
"""The engine under Debian 12's own kernel, which cannot move pages. The long form: tests/older-kernel."""

import subprocess

from testbed.paths import ROOT

_FILTER = "PagerCopying.*:*limitTouchLiftDetach*/CopyHuge:*threadsThatNeverStop*/CopySmall:*theAgentIsSmall*/CopySmall"


def test_pages_are_copied_where_they_cannot_be_moved():
    result = subprocess.run([ROOT / "tests/older-kernel", "--no-build", _FILTER], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert result.returncode == 0, result.stdout
    assert "Linux 6.1." in result.stdout
    assert "[  PASSED  ] 8 tests." in result.stdout, result.stdout
