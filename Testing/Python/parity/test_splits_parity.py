# SPDX-License-Identifier: Apache-2.0
"""nnU-Net v2's own splits of 23 case ids (mr-dinov3/nnunet_misc.json of the reference runs)."""

import json

import pytest

from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.datasets.splits import fold_ids, split_cases
from ProstateXferLib.training.recipe.schema import Source, Split


@pytest.fixture(scope="module")
def reference(golden_data):
    return json.loads((golden_data / "mr-dinov3" / "nnunet_misc.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("fold", range(5))
def test_folds_are_those_of_nnunet(reference, fold):
    cases = [Case(name, name, {}) for name in reversed(reference["split_ids"])]
    data = split_cases([(Source("nnunet"), cases)], Split(fold=fold))
    expected = reference["splits"][fold]
    assert sorted(case.case_id for case in data.validation) == expected["val"]
    assert sorted(case.case_id for _, chosen in data.train for case in chosen) == expected["train"]
    assert list(fold_ids(cases, Split())[fold]) == expected["val"]
