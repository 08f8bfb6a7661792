# SPDX-License-Identifier: Apache-2.0
import pytest

from vs_kernel.options import parse_arguments
from vs_kernel.plan import OURS, SHORT, WITHOUT, WORKLOADS, Sizes, expected_seconds, sizes_of
from vs_kernel.run import Run, in_turns

MIB = 1 << 20


def test_hot_sets_are_shares_of_the_total():
    sizes = Sizes(128 * MIB)
    assert sizes.working_set == 256 * MIB
    command = WORKLOADS["phases"].command(sizes, SHORT, 3)
    assert command == f"run phases 3 hot-pages {96 * 256} period {SHORT.phase:g}"
    assert WORKLOADS["wake"].command(sizes, SHORT, 0.5) == "run random 0.5"


def test_a_linux_guest_is_given_three_quarters():
    sizes = sizes_of("linux-guest", Sizes(128 * MIB))
    assert (sizes.total, sizes.working_set) == (288 * MIB, 384 * MIB)
    assert sizes_of("kvm", Sizes(128 * MIB)) == Sizes(128 * MIB)


def test_every_side_has_every_turn():
    turns = [in_turns(["ours", "a", "b"], turn) for turn in range(3)]
    assert all(sorted(turn) == ["a", "b", "ours"] for turn in turns)
    assert {turn[0] for turn in turns} == {"ours", "a", "b"}
    assert in_turns(["ours", "a", "b"], 3) == turns[0]


def test_filters_choose_what_is_measured():
    options = parse_arguments(["--short", "--subject", "process", "--workload", "zipf", "--rival", "zswap", "--rounds", "3"])
    assert [(row.subject, row.workload.name, row.sides) for row in options.comparisons] == [("process", "zipf", (OURS, "zswap"))]
    assert Run.count(options) == 3 * 2


def test_the_proactive_policy_is_measured_in_pairs_against_nothing():
    options = parse_arguments(["--short", "--workload", "proactive-cold"])
    assert [(row.subject, row.sides, row.rounds) for row in options.comparisons] == [("process", (OURS, WITHOUT), 3)]


def test_the_engine_alone_is_one_measurement():
    options = parse_arguments(["--subject", "engine"])
    assert options.faults and not options.comparisons and Run.count(options) == 1
    assert not parse_arguments(["--subject", "process"]).faults
    assert not parse_arguments(["--workload", "zipf"]).faults


def test_what_short_leaves_out_can_be_asked_for():
    def named(*arguments):
        return {(row.subject, row.workload.name) for row in parse_arguments(["--short", *arguments]).comparisons}
    assert ("kvm", "zipf") not in named() and ("process", "zipf") in named()
    assert ("kvm", "zipf") in named("--workload", "zipf")


@pytest.mark.parametrize("arguments", [["--workload", "bogus"], ["--total", "3M"], ["--total", "129M"], ["--rounds", "-1"], ["--rounds", "0"],
                                       ["--subject", "kvm", "--workload", "saved"]])
def test_wrong_options_are_refused(arguments):
    with pytest.raises(SystemExit) as refused:
        parse_arguments(arguments)
    assert refused.value.code == 2


def test_short_is_expected_to_take_less_than_ten_minutes():
    options = parse_arguments(["--short"])
    assert 60 < expected_seconds(options.comparisons, options.faults, options.durations) < 600
