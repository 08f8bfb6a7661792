# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from vs_kernel.results import best_rival, make_bars, make_row, medians, ratio, sound, wanted


def good(value, **more):
    return {"value": value, "wrong": 0, "calibrated": True, "used_bytes": 100, "p99_us": 5.0, **more}


def row(workload, ours, rivals, subject="process", lower=False):
    return make_row(subject, workload, {"ours": [good(ours)], **{name: [good(value)] for name, value in rivals.items()}}, lower)


def test_medians_leave_out_failures():
    assert medians([good(1), {"error": "x"}, good(3), good(100)], "value") == 3
    assert medians([{"error": "x"}], "value") is None


@pytest.mark.parametrize("ours, rival, lower, times", [
    (200, 100, False, 2.0), (50, 100, False, 0.5), (0.1, 0.5, True, 5.0), (None, 1, False, None), (1, None, False, None),
    (1, 0, False, None)])
def test_ratio_is_how_many_times_better_ours_is(ours, rival, lower, times):
    assert ratio(ours, rival, lower) == (None if times is None else pytest.approx(times))


def test_the_best_rival_counts():
    assert best_rival({"a": 1, "b": 3, "c": None}, lower_is_better=False) == "b"
    assert best_rival({"a": 1, "b": 3, "c": None}, lower_is_better=True) == "a"
    assert best_rival({"c": None}, lower_is_better=True) is None


def test_a_row_has_medians_and_compares_with_the_best():
    made = make_row("process", "random", {
        "ours": [good(300), good(100), good(200)], "slow": [good(10)], "fast": [good(90), good(100), good(110)]})
    assert (made["ours"], made["rivals"], made["best_rival"]) == (200, {"slow": 10, "fast": 100}, "fast")
    assert made["ratio_to_best"] == pytest.approx(2.0)
    assert made["p99_us"]["ours"] == 5.0 and made["used_bytes"]["slow"] == 100
    json.dumps(made)


def test_a_row_notes_what_was_not_as_it_should():
    made = make_row("kvm", "random", {
        "ours": [good(1)], "a": [{"error": "killed"}], "b": [good(1, calibrated=False, gap=0.05)], "c": [good(1, wrong=7)]})
    assert made["rivals"]["a"] is None
    assert [note.split(",")[0] for note in made["notes"]] == ["a", "b", "c"]
    assert "killed" in made["notes"][0] and "+5.0 %" in made["notes"][1] and "7 accesses" in made["notes"][2]


def test_a_wake_that_was_not_seen_is_a_lower_bound():
    made = make_row("process", "wake", {"ours": [good(0.2)], "a": [good(6.0, at_least=True)]}, lower_is_better=True)
    assert made["at_least"] == ["a"] and made["ratio_to_best"] == pytest.approx(30)
    assert made["unit"] == "s"
    nobody = make_row("process", "wake", {"ours": [good(6.0, at_least=True)], "a": [good(6.0, at_least=True)]}, lower_is_better=True)
    assert nobody["ratio_to_best"] is None


def test_a_rival_that_was_given_more_is_shown_but_not_compared():
    made = make_row("process", "random", {"ours": [good(2)], "a": [good(1)], "b": [good(9, given=1.25)], "c": [good(1, given=1.0)]})
    assert (made["best_rival"], made["rivals"]["b"], made["given_more"]) == ("a", 9, ["b"])


def bars_by_name(rows):
    return {bar["name"].split(":")[0]: bar for bar in make_bars(rows)}


def test_bars_are_met_at_what_is_wanted_and_not_below():
    bars = bars_by_name([row("random", 200, {"a": 100}), row("zipf", 149, {"a": 100})])
    assert bars["process random"] == {"name": "process random: times the best rival", "want": 2.0, "at_most": False, "got": 2.0,
                                      "met": True}
    assert not bars["process zipf"]["met"]


def test_every_row_is_as_good_as_the_worst():
    assert bars_by_name([row("random", 300, {"a": 100}), row("zipf", 124, {"a": 100}, subject="kvm")])["every row"]["got"] \
        == pytest.approx(1.24)
    failed = make_row("kvm", "zipf", {"ours": [{"error": "x"}], "a": [good(1)]})
    assert not bars_by_name([row("random", 300, {"a": 100}), failed])["every row"]["met"]


def test_no_bar_about_what_was_not_measured():
    assert list(bars_by_name([row("phases", 3, {"a": 1})])) == ["every row"]
    assert not make_bars([row("random", 3, {})])


def proactive(cold_share, ours, without):
    return make_row("process", "proactive-cold", {"ours": [good(ours, cold_share=cold_share)], "without": [good(without)]})


def test_the_proactive_policy_has_bars_of_its_own():
    made = proactive(0.96, 98.0, 100.0)
    bars = {bar["name"]: bar for bar in make_bars([made])}
    assert bars["process proactive-cold: share gone within 60 s"]["met"]
    speed = bars["process proactive-cold: speed, times without us"]
    assert (speed["want"], speed["got"], speed["met"]) == (0.99, pytest.approx(0.98), False)
    assert "every row" not in bars_by_name([made]) and wanted(made) == 0.99


def test_a_fault_may_take_so_many_times_the_raw_one():
    rows = [make_row("engine", name, {"ours": [good(ours)], "raw": [good(4.0)]}, lower_is_better=True, unit="us")
            for name, ours in (("staged-fault", 5.0), ("cold-fault", 6.5))]
    bars = bars_by_name(rows)
    assert (bars["engine staged-fault"]["got"], bars["engine staged-fault"]["met"]) == (pytest.approx(1.25), True)
    assert (bars["engine cold-fault"]["want"], bars["engine cold-fault"]["met"]) == (1.6, False)
    assert "every row" not in bars


def test_saved_memory_is_compared_with_what_the_best_rival_saves():
    made = make_row("process", "saved", {"ours": [good(115)], "a": [good(100)], "b": [good(50)]}, unit="bytes")
    assert bars_by_name([made])["process saved"]["got"] == pytest.approx(1.15)


def test_sound_means_figures_and_no_wrong_byte():
    assert sound([row("random", 3, {"a": 1})])
    assert not sound([make_row("process", "random", {"ours": [{"error": "x"}], "a": [good(1)]})])
    assert not sound([make_row("process", "random", {"ours": [good(1)], "a": [good(1, wrong=1)]})])
