# SPDX-License-Identifier: Apache-2.0
"""The study as one Markdown page: what was trained, the tables, what they show and what they do not."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ProstateXferLib.checkpoints.file_format import read_card
from ProstateXferLib.pipelines.provenance import library_versions
from ProstateXferLib.studies.miniature.case_scores import CaseScore
from ProstateXferLib.studies.miniature.plan import ARMS, CV_NAME, ENCODERS, TEST_NAME
from ProstateXferLib.studies.miniature.reading import reading
from ProstateXferLib.studies.miniature.tables import (
    comparison_table,
    comparisons,
    dice_table,
    markdown_table,
    millimetre_table,
)

QUESTION = """\
Does an encoder that learnt from CT, without labels, help on MR when it is frozen, and does adapting it to MR help
more? The question of MR-DINOv3 (AAPM 2026, abstract 2441), asked with the data at hand."""
LIMITS = """\
- Nothing here repeats the paper: it had 1,017 and 1,500 patients, a ViT-B with published weights and a full nnU-Net.
Here a ViT of 3.6 million weights and a small U-Net see a few dozen volumes for minutes. The paper's numbers stand
beside to show the layout, not to be compared.
- The place of the natural-image DINOv3 is taken by the CT encoder, because no published weights can be had here.
- Every arm stops after a few hundred steps, far from what it could reach: this compares what is learnt early. A gland
model trained for longer on the same cases comes with ProstateXfer (README).
- The MR adaptation saw unlabelled images of other patients of PROMISE12 itself: what it gains out of fold may be gained
in these centres alone.
- PROMISE12's copies have nominal millimetres: from them only overlap is reported.
- The glands of the five test cases were drawn by an AI and not by an expert.
- The paper's lesion tables are not repeated: PROMISE12 has no lesions drawn, and four lesions are no test set.
- One seed: the spread over initialisations and orders is not known."""


@dataclass(frozen=True)
class Trained:
    """One trained checkpoint of the study, as its card tells it."""

    title: str
    steps: int
    sha256: str
    facts: str


def study_page(scores: Sequence[CaseScore], trained: Sequence[Trained], *, command: str, figure: str = "") -> str:
    """The whole page.

    Args:
        scores: rows of all arms.
        trained: encoders and models, for the table of what was trained.
        command: the command line that made it.
        figure: path of the figure beside the page; "" for none.
    """
    present = {score.arm for score in scores}
    arms = {arm.name: arm.title for arm in ARMS if arm.name in present}
    rows = [(item.title, str(item.steps), item.facts, item.sha256[:12]) for item in trained]
    parts = [
        "# Results: the papers' comparison in miniature",
        f"Written by `{command}`; do not edit by hand. Research use only.",
        QUESTION,
        _chain_text(),
        "## What was trained",
        markdown_table(("checkpoint", "steps", "validation", "sha256"), rows),
        *([f"![Dice of every case, by arm]({figure})"] if figure else []),
        *_of_data(scores, arms, CV_NAME),
        *_of_data(scores, arms, TEST_NAME),
        "## What this does not show",
        LIMITS,
        f"Versions: {', '.join(f'{name} {version}' for name, version in library_versions().items())}.",
    ]
    return "\n\n".join(parts) + "\n"


def _of_data(scores: Sequence[CaseScore], arms: dict[str, str], data: str) -> list[str]:
    tests = comparisons(scores, arms, data)
    in_mm = [millimetre_table(scores, arms, data)] if data == TEST_NAME else []
    return [
        f"## Whole gland: {data}",
        dice_table(scores, arms, data),
        *in_mm,
        comparison_table(tests, arms),
        "What this shows:",
        reading(scores, tests, arms, data),
    ]


def trained_of(title: str, checkpoint: Path, sha256: str) -> Trained:
    """The line of one checkpoint, from its card's last stage."""
    last = read_card(checkpoint).history[-1]
    selected = last.get("selected") or {}
    facts = f"{selected['metric']} {selected['value']:.3g}" if selected.get("value") is not None else "–"
    return Trained(title, int(last["steps"]), sha256, facts)


def _chain_text() -> str:
    encoders = "; ".join(f"{encoder.title} (`{encoder.recipe}`)" for encoder in ENCODERS)
    arms = "; ".join(f"{arm.title} (`{arm.recipe}`)" for arm in ARMS)
    return (
        f"Encoders: {encoders}. Arms, five folds each, split by patient by nnU-Net's rule: {arms}. All arms take the "
        "same number of steps with the same batch; slices of frozen encoders come in six stored views, those of the "
        "U-Net in ever new ones. Cases of other centres are segmented by the mean of an arm's models."
    )
