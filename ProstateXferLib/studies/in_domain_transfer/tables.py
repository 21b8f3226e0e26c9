# SPDX-License-Identifier: Apache-2.0
"""The paper's two tables from the study's numbers, with the paper's beside; all in per cent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ProstateXferLib.studies.in_domain_transfer.options import ARCHITECTURES, ENCODERS
from ProstateXferLib.studies.in_domain_transfer.published import TEST_DICE_IOU, VALIDATION_DICE
from ProstateXferLib.studies.in_domain_transfer.routes import Route
from ProstateXferLib.studies.in_domain_transfer.slice_overlap import AVERAGES, SliceOverlap, mean_overlap
from ProstateXferLib.studies.in_domain_transfer.training import TrainedRoute


@dataclass(frozen=True)
class NetworkCell:
    """One cell of Table II: mean and deviation of the validation Dice over the folds, and the paper's mean."""

    architecture: str
    encoder: str
    mean_percent: float
    deviation_percent: float
    folds: int
    paper_percent: float


@dataclass(frozen=True)
class TransferCell:
    """One cell of Table III: one average of one route's test at one site.

    Attributes:
        source: the sites before the target, joined by arrows; "none"; or "all".
        target: the site whose test patients were scored.
        average: of `slice_overlap.AVERAGES`.
        dice_percent, iou_percent: ours.
        count: slices, patients, or 1.
        fold: that validated best and was tested.
        paper_dice_percent, paper_iou_percent: None where the paper has no such route.
    """

    source: str
    target: str
    average: str
    dice_percent: float
    iou_percent: float
    count: int
    fold: int
    paper_dice_percent: float | None
    paper_iou_percent: float | None


def network_cells(trained: Mapping[tuple[str, str], TrainedRoute]) -> list[NetworkCell]:
    """Table II, in the paper's order of rows and columns.

    Args:
        trained: (architecture, encoder) -> its folds at the first site.
    """
    return [
        NetworkCell(
            architecture,
            encoder,
            100 * route.mean,
            100 * route.deviation,
            len(route.folds),
            VALIDATION_DICE[encoder][architecture],
        )
        for encoder in ENCODERS
        for architecture in ARCHITECTURES
        if (route := trained.get((architecture, encoder))) is not None
    ]


def transfer_cells(
    tested: Sequence[tuple[Route, str, int, Sequence[SliceOverlap]]],
) -> list[TransferCell]:
    """Table III in all three averages.

    Args:
        tested: (route, target, fold that was tested, slices of the target's test patients), in the order of routes.
    """
    cells = []
    for route, target, fold, overlaps in tested:
        paper = TEST_DICE_IOU.get(route.source, {}).get(target, (None, None))
        for average in AVERAGES:
            mean = mean_overlap(overlaps, average)
            cells.append(
                TransferCell(
                    source_name(route), target, average, 100 * mean.dice, 100 * mean.iou, mean.count, fold, *paper
                )
            )
    return cells


def source_name(route: Route) -> str:
    """The row's name: "none", "A", "A→B", "all"."""
    return route.source if isinstance(route.source, str) else "→".join(route.source) or "none"
