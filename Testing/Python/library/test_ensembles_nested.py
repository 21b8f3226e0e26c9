# SPDX-License-Identifier: Apache-2.0
"""Nested cross-validation: a real gain is found, luck is not, and nothing held out takes part in a choice."""

import math
import zlib

import numpy as np
import pytest

from ProstateXferLib.ensembles.baseline import SLOTS, best_slots, equal_slots
from ProstateXferLib.ensembles.case_metrics import CaseMetrics
from ProstateXferLib.ensembles.greedy import select_greedily
from ProstateXferLib.ensembles.members import Members
from ProstateXferLib.ensembles.nested import nested_cross_validation
from ProstateXferLib.ensembles.paired_difference import paired_differences
from ProstateXferLib.ensembles.patient_folds import patient_folds
from ProstateXferLib.ensembles.simplex import scan_weights
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics.paired_tests import paired_wilcoxon
from ProstateXferLib.metrics.statistics import bootstrap_interval

CASES = tuple(f"case{k:02d}" for k in range(30))
NAMES = tuple(f"m{k}" for k in range(8))


def table(values, cases=CASES):
    """Metrics from one number a case, 0 (worst) to 1 (best)."""
    values = np.clip(values, 0, 1)
    return CaseMetrics(cases, np.column_stack([values, values, 20 * (1 - values), 5 * (1 - values), 4 * (1 - values)]))


class Luck:
    """Every ensemble has the same distribution of metrics and nothing in common with any other."""

    def __init__(self, seed):
        self.seed = seed

    def __call__(self, members, cases):
        random = np.random.default_rng(zlib.crc32(repr((members, self.seed)).encode()))
        return table(0.7 + 0.1 * random.standard_normal(len(CASES))).of_cases(cases)


class Quality:
    """An ensemble is as good as the weighted mean of its members, and cases differ."""

    def __init__(self, quality, noise=0.02):
        self.quality, self.noise = quality, noise

    def __call__(self, members, cases):
        mean = sum(w * self.quality[name] for name, w in zip(members.names, members.weights, strict=True))
        case = 0.1 * np.random.default_rng(5).standard_normal(len(CASES))
        own = np.random.default_rng(zlib.crc32(repr(members).encode())).standard_normal(len(CASES))
        return table(mean + case + self.noise * own).of_cases(cases)


def greedy(ask, cases):
    return select_greedily(ask, cases, names=NAMES, rounds=3, patience=2).members


def nested(evaluator, choose=greedy, baseline=None, **options):
    baseline = baseline or equal_slots(NAMES[:SLOTS])
    return nested_cross_validation(evaluator, CASES, choose=choose, baseline=baseline, **options)


def test_what_is_better_beats_the_baseline_by_what_it_is_better():
    quality = {name: 0.8 if name == "m7" else 0.7 for name in NAMES}
    found = nested(Quality(quality))

    assert found.verdict == "beats"
    dice = found.differences[0]
    assert dice.difference == pytest.approx(0.1, abs=0.02) and dice.low < dice.difference < dice.high
    assert {difference.outcome for difference in found.differences} == {"better"}
    assert all("m7" in fold.chosen.names for fold in found.folds) and "m7" in found.final.names
    assert str(found).startswith("On 30 held-out cases of 30 patients the chosen ensemble beats the baseline (")
    assert f"Dice {dice.difference:+.4g} ({dice.low:+.4g} to {dice.high:+.4g}, p = " in str(found)


def test_luck_on_the_cases_that_choose_does_not_report():
    runs = [nested(Luck(seed), resamples=200) for seed in range(40)]
    held_out = np.array([run.differences[0].difference for run in runs])
    apparent = np.array([run.apparent[0].difference for run in runs])

    error = held_out.std(ddof=1) / math.sqrt(len(runs))
    assert abs(held_out.mean()) < 3 * error
    # The same choices look good where they were made: without nesting there would be a gain.
    assert apparent.mean() > 6 * error and (apparent > 0).mean() > 0.9
    # Less than the 2.5 % of one side; at 2.5 %, three of 40 runs or fewer are to be expected in 98 %.
    assert sum(run.verdict == "beats" for run in runs) <= 3


def test_no_case_both_chooses_and_reports():
    seen = []

    def choose(ask, cases):
        seen.append(set(cases))
        return greedy(ask, cases)

    patients = {case: f"patient{k // 3}" for k, case in enumerate(CASES)}
    found = nested(Luck(0), choose, patients=patients)
    reported = [case for fold in found.folds for case in fold.fold.reporting]
    assert sorted(reported) == sorted(CASES)
    for fold, chose in zip(found.folds, seen, strict=False):
        assert not {patients[c] for c in chose} & {patients[c] for c in fold.fold.reporting}
        assert fold.chosen_metrics.cases == fold.baseline_metrics.cases == fold.fold.reporting
    assert seen[-1] == set(CASES) and len(seen) == 6
    assert {difference.patients for difference in found.differences} == {10}


def test_a_choice_that_peeks_is_stopped():
    def peeking(ask, cases):
        ask(Members.equal(["m0"]), CASES)
        return Members.equal(["m0"])

    with pytest.raises(ProstateXferError, match="is held out"):
        nested(Luck(0), peeking)


def test_held_out_numbers_are_those_of_each_fold_s_own_choice():
    found = nested(Luck(3), folds=3)
    one, two = [], []
    for fold in found.folds:
        one.append(Luck(3)(fold.chosen, fold.fold.reporting).values[:, 0])
        two.append(Luck(3)(fold.baseline, fold.fold.reporting).values[:, 0])
    assert found.differences[0].difference == pytest.approx(np.concatenate(one).mean() - np.concatenate(two).mean())


def test_choosing_the_baseline_itself_ties_exactly():
    slots = equal_slots(NAMES[:SLOTS])
    found = nested(Luck(0), slots, slots)
    assert found.verdict == "ties" and "was not shown to beat the baseline" in str(found)
    assert all((d.difference, d.low, d.high, d.p) == (0, 0, 0, 1) for d in found.differences)


def test_a_worse_choice_is_said_to_be_worse():
    quality = {name: 0.6 if name == "m0" else 0.7 for name in NAMES}
    found = nested(Quality(quality), equal_slots(["m0"]), equal_slots(NAMES[1:6]))
    assert found.verdict == "loses" and "does not beat the baseline: it is worse" in str(found)


def test_better_boundaries_at_the_price_of_overlap_are_no_victory():
    def evaluator(members, cases):
        sharp = sum(w for name, w in zip(members.names, members.weights, strict=True) if name == "m7")
        noise = np.random.default_rng(len(members.names)).random(len(CASES)) * 0.01
        row = [0.8 - 0.2 * sharp, 0.7 + 0.2 * sharp, 5 - 3 * sharp, 2, 1]
        values = np.tile(row, (len(CASES), 1)) + noise[:, None]
        return CaseMetrics(CASES, values).of_cases(cases)

    def sharpest(ask, cases):
        return scan_weights(ask, cases, names=NAMES[6:], boundary="hd95", trade=0.0).chosen.members

    found = nested(evaluator, sharpest)
    assert found.final == Members.equal(["m7"])
    assert found.verdict == "trades" and "better in some metrics and worse in others" in str(found)


def test_the_best_slots_of_the_choosing_cases_are_the_baseline_to_fear():
    quality = {name: 0.6 + 0.02 * k for k, name in enumerate(NAMES)}
    assert best_slots(NAMES, slots=3)(Quality(quality, noise=0), CASES) == Members.equal(["m5", "m6", "m7"])
    assert equal_slots(["a", "a", "b", "c"])(Quality(quality), CASES) == Members.of_counts({"a": 2, "b": 1, "c": 1})
    with pytest.raises(ProstateXferError, match="cannot fill 9 slots"):
        best_slots(NAMES, slots=9)


def paired(seed=0):
    random = np.random.default_rng(seed)
    first = np.clip(0.7 + 0.1 * random.standard_normal(len(CASES)), 0, 1)
    return table(first), table(first + 0.02 + 0.03 * random.standard_normal(len(CASES)))


def test_intervals_and_tests_are_those_of_the_library():
    baseline, chosen = paired()
    found = paired_differences(chosen, baseline, seed=4)
    for k in range(4):
        one, two = baseline.values[:, k], chosen.values[:, k]
        assert (found[k].low, found[k].high) == pytest.approx(bootstrap_interval(two - one, seed=4))
        assert found[k].p == paired_wilcoxon(one, two).p
    assert found[4].difference == pytest.approx(
        math.sqrt((chosen.values[:, 4] ** 2).mean()) - math.sqrt((baseline.values[:, 4] ** 2).mean())
    )
    assert found[4].low < found[4].difference < found[4].high
    # Five tests of one and the same quantity: Holm multiplies the smallest p by five.
    assert min(d.p_adjusted for d in found) == pytest.approx(min(1, 5 * min(d.p for d in found)))


def test_copies_of_a_patient_s_case_make_no_new_patients():
    baseline, chosen = paired()
    twice = [CaseMetrics((*CASES, *(f"{c}b" for c in CASES)), np.tile(t.values, (2, 1))) for t in (chosen, baseline)]
    owner = {name: case for case in CASES for name in (case, f"{case}b")}
    for plain, doubled in zip(paired_differences(chosen, baseline), paired_differences(*twice, owner), strict=True):
        assert (doubled.low, doubled.high, doubled.patients) == pytest.approx((plain.low, plain.high, 30))
        assert doubled.p == pytest.approx(plain.p)
    # Taken for patients of their own, they make the interval narrower than the data are.
    naive = paired_differences(*twice)[0]
    honest = paired_differences(*twice, owner)[0]
    assert naive.high - naive.low < 0.85 * (honest.high - honest.low)


def test_interval_and_test_must_agree_that_there_is_a_difference():
    # 29 patients gain a little and one loses all: most gain (the test), the mean does not (the interval).
    before = np.full(len(CASES), 0.7)
    after = before + 0.001 * np.arange(1, len(CASES) + 1)
    after[0] = 0.0
    found = paired_differences(table(after), table(before))[0]
    assert found.p_adjusted < 0.05 and found.low < 0 < found.high
    assert found.outcome == "no difference shown"


def test_one_patient_shows_nothing():
    baseline, chosen = paired()
    found = paired_differences(chosen, baseline, dict.fromkeys(CASES, "one"))
    assert all(d.outcome == "no difference shown" and math.isnan(d.low) for d in found)


def test_folds_are_whole_patients_of_even_sizes_whatever_the_order_of_the_cases():
    patients = {case: f"patient{k % 11}" for k, case in enumerate(CASES)}
    folds = patient_folds(CASES, patients, folds=4, seed=1)
    sizes = [len({patients[case] for case in fold.reporting}) for fold in folds]
    assert sorted(sizes) == [2, 3, 3, 3]
    assert sorted(case for fold in folds for case in fold.reporting) == sorted(CASES)
    for fold in folds:
        assert not {patients[c] for c in fold.reporting} & {patients[c] for c in fold.choosing}
        assert {*fold.reporting, *fold.choosing} == set(CASES)
    assert patient_folds(CASES[::-1], patients, folds=4, seed=1) == folds
    assert patient_folds(CASES, patients, folds=4, seed=2) != folds


def test_folds_that_cannot_be_are_refused():
    with pytest.raises(ProstateXferError, match="3 patients cannot make 5 folds"):
        patient_folds(CASES[:3])
    with pytest.raises(ProstateXferError, match="patient of the case 'case01' is unknown"):
        patient_folds(CASES, {"case00": "a"})
    with pytest.raises(ProstateXferError, match="named twice"):
        nested_cross_validation(Luck(0), (*CASES, CASES[0]), choose=greedy, baseline=greedy)
