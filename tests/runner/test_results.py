# SPDX-License-Identifier: Apache-2.0
import pytest

from runner.results import read_junit, tally

_GTEST = """<testsuites><testsuite name="A">
  <testcase name="Good" status="run" result="completed" classname="A"/>
  <testcase name="Bad" status="run" result="completed" classname="A"><failure message="1 != 2"/></testcase>
  <testcase name="Off" status="notrun" result="suppressed" classname="A"/>
</testsuite></testsuites>"""
_PYTEST = """<testsuites><testsuite>
  <testcase classname="t" name="a"/>
  <testcase classname="t" name="b"><error message="boom">trace</error></testcase>
  <testcase classname="t" name="c"><skipped message="no reason"/></testcase>
</testsuite></testsuites>"""


@pytest.mark.parametrize("text", [_GTEST, _PYTEST], ids=["gtest", "pytest"])
def test_each_outcome_is_counted(tmp_path, text):
    file = tmp_path / "results.xml"
    file.write_text(text)
    total = tally(read_junit(file), skip_fails=False)
    assert (total.passed, total.failed, total.skipped) == (1, 1, 1)


def test_a_skip_can_count_as_a_failure(tmp_path):
    file = tmp_path / "results.xml"
    file.write_text(_PYTEST)
    total = tally(read_junit(file), skip_fails=True)
    assert (total.passed, total.failed, total.skipped) == (1, 2, 0)
