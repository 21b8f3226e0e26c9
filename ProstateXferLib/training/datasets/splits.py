# SPDX-License-Identifier: Apache-2.0
"""Who trains, who selects, who tunes and who scores: whole patients, the same in every process and on every machine.

Every source is split by itself, so that its patients are on the same sides whatever other sources it is mixed with: in
a chain that trains on site A, then on A and B, no test patient of A is ever trained on. Ids that occur in two sources
are the same patient (option `id_prefix` of a source says otherwise), who stays on the side the first source gave.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.datasets.folds import balanced_folds, shuffled_folds
from ProstateXferLib.training.recipe.schema import Source, Split
from ProstateXferLib.training.tasks.task import StageData

_SHOWN_IDS = 5


@dataclass
class _Sides:
    """The sides of the patients of all sources so far; a tuning patient may train as well."""

    train: set[str]
    validation: set[str]
    tuning: set[str]
    test: set[str]

    def known(self) -> set[str]:
        return self.train | self.validation | self.tuning | self.test


def split_cases(sources: Sequence[tuple[Source, Sequence[Case]]], split: Split) -> StageData:
    """The cases of a stage on their sides.

    Rules (recipe/schema.Split): "nnunet" gives nnU-Net's folds where every patient has one case; "stratified" balances
    folds by an attribute; "fixed" holds out what is named; "none" trains on all. `test_share` of each source's patients
    are held out before folds are made, chosen by `seed` (scikit-learn's rounding: up). Names in `validation` and `test`
    are case ids, or "attribute=value" for all cases that have it ("part=test"); their patients' other cases go with
    them. With a `tuning_fold`, that fold's patients train as well and are never validated on (SAP,
    J Bone Oncology 57 (2026) 100745, section on cross-validation). `test_only` sources are test cases as a whole.

    Raises:
        ProstateXferError: no case trains, a name that is nobody's, too few patients for the folds, keys that do not go
            together, or a patient on two sides (their ids are told).
    """
    _check_keys(split)
    trained = [(source, cases) for source, cases in sources if not source.test_only]
    _check_names(split, [case for _, cases in trained for case in cases])
    sides = _Sides(set(), set(), set(), set())
    for _, cases in trained:
        _assign(sides, cases, split)
    _refuse_overlap(sides, (case for source, cases in sources if source.test_only for case in cases))
    everyone = [case for _, cases in trained for case in cases]
    train = tuple(
        (source.weight, chosen)
        for source, cases in trained
        if (chosen := tuple(case for case in cases if case.patient_id in sides.train))
    )
    if not train:
        raise ProstateXferError("The split leaves no case to train on: hold out fewer, or add data.")
    outside = tuple(case for source, cases in sources if source.test_only for case in cases)
    return StageData(
        train,
        validation=_of(everyone, sides.validation),
        tuning=_of(everyone, sides.tuning),
        test=(*_of(everyone, sides.test), *outside),
    )


def fold_ids(cases: Sequence[Case], split: Split) -> list[tuple[str, ...]]:
    """The case ids of each fold, after the test cases were held out; only for rules that make folds."""
    patients = _patients(cases)
    held = _held_out(patients, split)
    folds = _folds(patients, [name for name in patients if name not in held], split)
    return [tuple(sorted(case.case_id for name in fold for case in patients[name])) for fold in folds]


def _check_keys(split: Split) -> None:
    folded = split.rule in ("nnunet", "stratified")
    if split.validation and split.rule != "fixed":
        raise ProstateXferError(
            f"The split's rule '{split.rule}' does not go with named validation cases: use the rule 'fixed'."
        )
    if split.rule == "fixed" and not (split.validation or split.test):
        raise ProstateXferError("The split's rule 'fixed' needs the names of validation or test cases.")
    if split.tuning_fold >= 0 and not folded:
        raise ProstateXferError(f"The split's rule '{split.rule}' makes no folds, so it has no tuning_fold.")
    if folded and split.tuning_fold == split.fold:
        raise ProstateXferError(
            f"Fold {split.fold} tunes the threshold and cannot validate as well: choose another fold or tuning_fold."
        )


def _check_names(split: Split, cases: Sequence[Case]) -> None:
    for name in (*split.validation, *split.test):
        if not any(_is_named(case, (name,)) for case in cases):
            raise ProstateXferError(f"The split names '{name}', which is no case of the stage's data: correct it.")


def _assign(sides: _Sides, cases: Sequence[Case], split: Split) -> None:
    """Put the patients of one source that are not on a side yet on one."""
    known = sides.known()
    patients = {name: own for name, own in _patients(cases).items() if name not in known}
    if not patients:
        return
    test = _held_out(patients, split)
    rest = [name for name in patients if name not in test]
    validation: set[str] = set()
    tuning: set[str] = set()
    if split.rule == "fixed":
        validation = {name for name in rest if any(_is_named(case, split.validation) for case in patients[name])}
    elif split.rule != "none":
        folds = _folds(patients, rest, split)
        validation = set(folds[split.fold])
        tuning = set(folds[split.tuning_fold]) if split.tuning_fold >= 0 else set()
    sides.test |= test
    sides.validation |= validation
    sides.tuning |= tuning
    sides.train |= set(rest) - validation


def _patients(cases: Sequence[Case]) -> dict[str, list[Case]]:
    """Patients with their cases, in the order of each one's first case id: nnU-Net's order, if each has one case."""
    patients: dict[str, list[Case]] = {}
    for case in sorted(cases, key=lambda case: case.case_id):
        patients.setdefault(case.patient_id, []).append(case)
    return patients


def _held_out(patients: dict[str, list[Case]], split: Split) -> set[str]:
    """The patients who only score the result: those named, and the test share of the others."""
    both = [
        name
        for name, own in patients.items()
        if any(_is_named(c, split.test) for c in own) and any(_is_named(c, split.validation) for c in own)
    ]
    if both:
        raise ProstateXferError(f"The split puts {_listed(both)} on validation and test: choose one side.")
    named = {name for name, own in patients.items() if any(_is_named(case, split.test) for case in own)}
    free = [
        name
        for name, own in patients.items()
        if name not in named and not any(_is_named(case, split.validation) for case in own)
    ]
    # Rounded up as in scikit-learn's train_test_split, but for what is binary rounding only (0.07 x 100 = 7 + 1e-15).
    count = math.ceil(split.test_share * len(free) - 1e-9)
    order = np.random.RandomState(split.seed).permutation(len(free))
    return named | {free[i] for i in order[:count]}


def _folds(patients: dict[str, list[Case]], names: Sequence[str], split: Split) -> list[list[str]]:
    if split.rule == "nnunet":
        parts = shuffled_folds(len(names), split.folds, split.seed)
    else:
        parts = balanced_folds([_stratum(patients[name], split.stratify) for name in names], split.folds, split.seed)
    return [[names[i] for i in part] for part in parts]


def _stratum(cases: Sequence[Case], attribute: str) -> str | int | float:
    """A patient's value: the largest of the cases' (the most lesions, positive before negative)."""
    lacking = [case.case_id for case in cases if attribute not in case.attributes]
    if lacking:
        raise ProstateXferError(
            f"The split balances folds by '{attribute}', which {_listed(lacking)} lacks; "
            f"its attributes are {', '.join(cases[0].attributes) or 'none'}."
        )
    return max(case.attributes[attribute] for case in cases)


def _is_named(case: Case, names: Iterable[str]) -> bool:
    for name in names:
        attribute, equals, value = name.partition("=")
        if name == case.case_id or (equals and str(case.attributes.get(attribute)) == value):
            return True
    return False


def _refuse_overlap(sides: _Sides, test_only: Iterable[Case]) -> None:
    scored = {case.patient_id for case in test_only}
    for side, others in (
        ("trained on", sides.train),
        ("validated on", sides.validation),
        ("tuned on", sides.tuning),
    ):
        if both := sorted(scored & others):
            raise ProstateXferError(
                f"A test_only source holds patients that are {side}: {_listed(both)}; remove them from one source, "
                f"or, if these are other people with equal ids, give one source the option id_prefix."
            )


def _of(cases: Sequence[Case], names: set[str]) -> tuple[Case, ...]:
    return tuple(case for case in cases if case.patient_id in names)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN_IDS} more" if len(names) > _SHOWN_IDS else ""
    return ", ".join(names[:_SHOWN_IDS]) + more
