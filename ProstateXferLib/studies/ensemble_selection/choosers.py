# SPDX-License-Identifier: Apache-2.0
"""The two ways of choosing, and what they must beat, as `ensembles.nested` takes them."""

from ProstateXferLib.ensembles.baseline import best_slots, equal_slots
from ProstateXferLib.ensembles.evaluator import Evaluator
from ProstateXferLib.ensembles.greedy import select_greedily
from ProstateXferLib.ensembles.members import Members
from ProstateXferLib.ensembles.nested import Chooser
from ProstateXferLib.ensembles.simplex import scan_weights
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.studies.ensemble_selection.options import SelectionOptions


def chooser_of(options: SelectionOptions, names: tuple[str, ...]) -> Chooser:
    """Greedy forward selection with replacement, or weights on the simplex."""

    def greedily(evaluator: Evaluator, cases: tuple[str, ...]) -> Members:
        return select_greedily(
            evaluator, cases, names=names, rounds=options.rounds, patience=options.patience, rule=options.rule
        ).members

    def by_weights(evaluator: Evaluator, cases: tuple[str, ...]) -> Members:
        return scan_weights(
            evaluator,
            cases,
            names=names,
            boundary=options.boundary,
            trade=options.trade,
            steps=options.steps,
            most=options.most,
            seed=options.seed,
        ).chosen.members

    return greedily if options.method == "greedy" else by_weights


def baseline_of(options: SelectionOptions, names: tuple[str, ...]) -> Chooser:
    """The equal mean of named candidates, or of the best `slots` of the cases that choose.

    With fewer candidates than slots all of them fill one each: a candidate that fills two would be a weight, which is
    what the choice has to earn.
    """
    if unknown := [name for name in options.baseline if name not in names]:
        raise ProstateXferError(f"The baseline names '{unknown[0]}', which is none of {', '.join(names)}.")
    if options.baseline:
        return equal_slots(options.baseline)
    return best_slots(names, slots=min(options.slots, len(names)), rule=options.rule)


def baseline_text(options: SelectionOptions, names: tuple[str, ...]) -> str:
    """What the baseline is, in words."""
    if options.baseline:
        return f"the equal mean of {', '.join(options.baseline)}"
    slots = min(options.slots, len(names))
    which = "all candidates" if slots == len(names) else f"the best {slots} candidates of the cases that choose"
    return f"the equal mean of {which}"
