# SPDX-License-Identifier: Apache-2.0
"""What a chosen ensemble has to beat: plain equal-weight means, as the field submits them."""

from collections.abc import Sequence

from ProstateXferLib.ensembles.evaluator import Evaluator
from ProstateXferLib.ensembles.members import Members
from ProstateXferLib.ensembles.nested import Chooser
from ProstateXferLib.ensembles.ranking import RankRule, rank
from ProstateXferLib.errors import ProstateXferError

SLOTS = 5
"""nnU-Net's five folds, which PANTHER's winners filled with checkpoints of their choice (papers.md 004)."""


def equal_slots(names: Sequence[str]) -> Chooser:
    """The mean of named candidates, whatever the cases say; name them before looking at the numbers.

    Any number of slots; PANTHER's and nnU-Net's have `SLOTS`. A name given twice fills two of them.
    """
    members = Members.equal(tuple(names))

    def choose(evaluator: Evaluator, cases: tuple[str, ...]) -> Members:
        return members

    return choose


def best_slots(names: Sequence[str], *, slots: int = SLOTS, rule: RankRule = "aggregate") -> Chooser:
    """The mean of the best single candidates of the cases that choose: harder to beat than slots filled blindly."""
    if not 1 <= slots <= len(names):
        raise ProstateXferError(f"{len(names)} candidates cannot fill {slots} slots: give more, or fewer slots.")

    def choose(evaluator: Evaluator, cases: tuple[str, ...]) -> Members:
        singles = {name: evaluator(Members.of_counts({name: 1}), cases) for name in names}
        return Members.equal(rank(singles, rule).order[:slots])

    return choose
