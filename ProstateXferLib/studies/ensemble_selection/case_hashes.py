# SPDX-License-Identifier: Apache-2.0
"""Cases without their names, as cards have them."""

import hashlib

from ProstateXferLib.studies.ensemble_selection.plan import Plan

_DIGITS = 12
"""As in training/datasets/fingerprint.py."""


def hashed_case(name: str) -> str:
    """First 12 hexadecimal digits of the sha256 of a case id: checkable by who has the cases, no id told."""
    return hashlib.sha256(name.encode()).hexdigest()[:_DIGITS]


def hashed_cases(plan: Plan) -> list[str]:
    """Of all cases, sorted."""
    return sorted(hashed_case(case.name) for case in plan.cases)
