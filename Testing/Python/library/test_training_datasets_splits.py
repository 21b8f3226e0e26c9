# SPDX-License-Identifier: Apache-2.0
"""Splits: whole patients, nothing on two sides, the same everywhere; nnU-Net's where every patient has one case."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.datasets.folds import balanced_folds, shuffled_folds
from ProstateXferLib.training.datasets.splits import fold_ids, split_cases
from ProstateXferLib.training.recipe.schema import Source, Split


def cases_of(*patients, studies=1, **attributes):
    return [
        Case(f"{patient}_{study}" if studies > 1 else patient, patient, {}, attributes=attributes)
        for patient in patients
        for study in range(studies)
    ]


def many(count, prefix="p", **options):
    return cases_of(*(f"{prefix}{i:03d}" for i in range(count)), **options)


def sides(data):
    """{side: ids of its cases}, for the sides that the engine sees."""
    train = [case.case_id for _, cases in data.train for case in cases]
    return {"train": train} | {
        side: [case.case_id for case in getattr(data, side)] for side in ("validation", "tuning", "test")
    }


def patients_of(data):
    return {
        "train": {case.patient_id for _, cases in data.train for case in cases},
        **{side: {case.patient_id for case in getattr(data, side)} for side in ("validation", "tuning", "test")},
    }


ONE = Source("cases")


@given(count=st.integers(5, 40), studies=st.integers(1, 3), folds=st.integers(2, 5), share=st.sampled_from([0.0, 0.2]))
def test_every_patient_validates_once_and_is_on_one_side(count, studies, folds, share):
    cases = many(count + 2, studies=studies)
    validated = []
    for fold in range(folds):
        data = split_cases([(ONE, cases)], Split(folds=folds, fold=fold, test_share=share))
        owners = patients_of(data)
        assert not any(owners[a] & owners[b] for a, b in itertools.combinations(("train", "validation", "test"), 2))
        told = sides(data)
        assert sorted(told["train"] + told["validation"] + told["test"]) == sorted(case.case_id for case in cases)
        validated += told["validation"]
    assert sorted(validated + told["test"]) == sorted(case.case_id for case in cases)


@given(count=st.integers(5, 60), seed=st.integers(0, 99999), folds=st.integers(2, 5))
def test_folds_are_those_of_scikit_learn(count, seed, folds):
    model_selection = pytest.importorskip("sklearn.model_selection")
    expected = [
        tuple(int(i) for i in validation)
        for _, validation in model_selection.KFold(folds, shuffle=True, random_state=seed).split(np.arange(count))
    ]
    assert shuffled_folds(count, folds, seed) == expected


@given(strata=st.lists(st.integers(0, 4), min_size=5, max_size=60), folds=st.integers(2, 5), seed=st.integers(0, 999))
def test_balanced_folds_have_equal_shares_of_everything(strata, folds, seed):
    parts = balanced_folds(strata, folds, seed)
    assert sorted(itertools.chain(*parts)) == list(range(len(strata)))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    for value in set(strata):
        counts = [sum(strata[i] == value for i in part) for part in parts]
        assert max(counts) - min(counts) <= 1
    assert parts == balanced_folds(strata, folds, seed)


def test_stratified_folds_are_balanced_by_the_attribute_of_the_patients():
    cases = [*many(20, "negative", lesions=0), *many(10, "positive", lesions=3)]
    split = Split(rule="stratified", stratify="lesions")
    folds = fold_ids(cases, split)
    assert [sum(name.startswith("positive") for name in fold) for fold in folds] == [2] * 5
    with pytest.raises(ProstateXferError, match=r"by 'side', which negative000 lacks; its attributes are lesions"):
        fold_ids(cases, Split(rule="stratified", stratify="side"))


def test_the_order_of_the_cases_does_not_matter():
    cases = many(23, studies=2)
    one = split_cases([(ONE, cases)], Split(test_share=0.2))
    two = split_cases([(ONE, cases[::-1])], Split(test_share=0.2))
    assert {side: sorted(names) for side, names in sides(one).items()} == {
        side: sorted(names) for side, names in sides(two).items()
    }


@pytest.mark.parametrize(("patients", "share", "held"), [(30, 0.2, 6), (19, 0.2, 4), (100, 0.07, 7), (5, 0.0, 0)])
def test_the_test_share_is_of_patients_and_rounded_up(patients, share, held):
    data = split_cases([(ONE, many(patients, studies=2))], Split(rule="none", test_share=share))
    assert len(patients_of(data)["test"]) == held
    assert len(data.test) == 2 * held


def test_the_test_patients_are_the_same_in_every_fold():
    held = [sides(split_cases([(ONE, many(30))], Split(test_share=0.2, fold=fold)))["test"] for fold in range(5)]
    assert all(names == held[0] for names in held)


def test_a_source_is_split_the_same_way_whatever_it_is_mixed_with():
    a, b = many(30, "a"), many(19, "b")
    split = Split(test_share=0.2)
    alone = sides(split_cases([(ONE, a)], split))
    mixed = split_cases([(Source("cases", weight=2.0), b), (ONE, a)], split)
    together = sides(mixed)
    for side, names in alone.items():
        assert [name for name in together[side] if name.startswith("a")] == names
    assert [weight for weight, _ in mixed.train] == [2.0, 1.0]


def test_a_patient_of_two_sources_stays_on_one_side():
    a = many(20)
    b = cases_of(*(case.patient_id for case in a[:10]), studies=2)
    owners = patients_of(split_cases([(ONE, a), (ONE, b)], Split()))
    assert not owners["train"] & owners["validation"]


@given(
    first=st.sets(st.integers(0, 30), min_size=10),
    second=st.sets(st.integers(0, 30), min_size=10),
    rule=st.sampled_from(["nnunet", "stratified"]),
    share=st.sampled_from([0.0, 0.2]),
    tuning=st.sampled_from([-1, 2]),
)
def test_nobody_is_on_two_sides_however_sources_overlap(first, second, rule, share, tuning):
    def source(numbers):
        cases = [
            Case(f"p{number}_{study}", f"p{number}", {}, attributes={"lesions": number % 3})
            for number in numbers
            for study in range(1 + number % 2)
        ]
        return ONE, cases

    if len(second - first) < 10:  # too few new ones to make folds of
        second = {number + 100 for number in second} | set(sorted(first)[:3])
    stratify = "lesions" if rule == "stratified" else ""
    split = Split(rule=rule, folds=4, fold=1, test_share=share, tuning_fold=tuning, stratify=stratify)
    owners = patients_of(split_cases([source(first), source(second)], split))
    apart = itertools.combinations(("train", "validation", "test"), 2)
    assert not any(owners[a] & owners[b] for a, b in apart)
    assert owners["tuning"] <= owners["train"]
    assert owners["train"] | owners["validation"] | owners["test"] == {f"p{number}" for number in first | second}


def test_named_cases_are_held_out_with_their_patients():
    cases = many(6, studies=2)
    split = Split(rule="fixed", validation=("p001_0",), test=("p004_1",))
    told = sides(split_cases([(ONE, cases)], split))
    assert told["validation"] == ["p001_0", "p001_1"]
    assert told["test"] == ["p004_0", "p004_1"]
    assert len(told["train"]) == 8


def test_a_published_side_may_be_named_by_its_attribute():
    cases = [*many(4, "a", part="train"), *many(2, "v", part="valid"), *many(2, "t", part="test")]
    told = sides(split_cases([(ONE, cases)], Split(rule="fixed", validation=("part=valid",), test=("part=test",))))
    assert told["validation"] == ["v000", "v001"]
    assert told["test"] == ["t000", "t001"]


def test_the_tuning_fold_trains_as_well_and_never_validates():
    cases = many(40)
    tuning = set(fold_ids(cases, Split(folds=7))[6])
    for fold in range(6):
        told = sides(split_cases([(ONE, cases)], Split(folds=7, fold=fold, tuning_fold=6)))
        assert set(told["tuning"]) == tuning
        assert tuning <= set(told["train"])
        assert not tuning & set(told["validation"])
    with pytest.raises(ProstateXferError, match="Fold 6 tunes the threshold and cannot validate"):
        split_cases([(ONE, cases)], Split(folds=7, fold=6, tuning_fold=6))


def test_a_test_only_source_is_never_trained_on():
    told = sides(split_cases([(ONE, many(10)), (Source("cases", test_only=True), many(3, "x"))], Split()))
    assert told["test"] == ["x000", "x001", "x002"]
    assert not any(name.startswith("x") for name in told["train"] + told["validation"])


def test_a_test_only_source_must_not_share_patients_with_what_is_trained_on():
    with pytest.raises(ProstateXferError, match=r"patients that are trained on: p003, p004.*id_prefix"):
        split_cases([(ONE, many(5)), (Source("cases", test_only=True), many(5)[3:])], Split(rule="none"))


def test_with_the_rule_none_every_case_trains():
    assert len(sides(split_cases([(ONE, many(7))], Split(rule="none")))["train"]) == 7


@pytest.mark.parametrize(
    ("split", "words"),
    [
        (Split(), "4 patients cannot make 5 folds"),
        (Split(rule="fixed"), "needs the names"),
        (Split(rule="none", tuning_fold=0), "makes no folds"),
        (Split(rule="none", validation=("p000",)), "use the rule 'fixed'"),
        (Split(rule="fixed", validation=("p009",)), "names 'p009', which is no case"),
        (Split(rule="fixed", validation=("p001",), test=("p001",)), "puts p001 on validation and test"),
        (Split(rule="fixed", test=("p000", "p001", "p002", "p003")), "leaves no case to train on"),
    ],
)
def test_what_does_not_go_together_is_told(split, words):
    with pytest.raises(ProstateXferError, match=words):
        split_cases([(ONE, many(4))], split)
