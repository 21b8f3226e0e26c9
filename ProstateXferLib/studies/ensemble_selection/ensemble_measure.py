# SPDX-License-Identifier: Apache-2.0
"""How good an ensemble is on a case: kept maps averaged as the ensemble would run, composed to labels, and scored.

Average (`pipelines.opinion_pool`), order of the members, the card's rules and the metrics (`prostatexfer evaluate
--empty penalty`) are those of the finished ensemble. What differs from running it: probabilities below 1e-6 outside a
member's kept box count as 0, and a background is what the structures leave, so that a voxel may fall on the other side
where two classes are equal to about 1e-6.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.checkpoints.card import Head, ModelCard
from ProstateXferLib.checkpoints.ensemble_card import names_found
from ProstateXferLib.checkpoints.loading import Checkpoint
from ProstateXferLib.ensembles.members import Members
from ProstateXferLib.evaluation.catalog import nsd_key
from ProstateXferLib.evaluation.label_names import name_of
from ProstateXferLib.evaluation.options import EvaluationOptions
from ProstateXferLib.evaluation.segmentation_scores import score_pair
from ProstateXferLib.pipelines.opinion_pool import OpinionPool
from ProstateXferLib.pipelines.postprocessing import compose_labels
from ProstateXferLib.studies.ensemble_selection.box import EMPTY, Box
from ProstateXferLib.studies.ensemble_selection.case_references import CaseReference, pair_with
from ProstateXferLib.studies.ensemble_selection.deciding_heads import deciding_heads, floor_of
from ProstateXferLib.studies.ensemble_selection.opened_plan import card_together
from ProstateXferLib.studies.ensemble_selection.prediction_file import PredictionFile

_ROUNDING = 1 - 1e-5
"""A floor of 1/3 is not exact in float32, nor is a mean."""


@dataclass(frozen=True)
class CasePrediction:
    """What a candidate says of a case.

    Attributes:
        checkpoint: who says it; was not trained on the case.
        file: the kept maps.
        box: the part of them without which no ensemble's labels can change (`deciding_box`).
    """

    checkpoint: Checkpoint
    file: PredictionFile
    box: Box


@dataclass(frozen=True)
class EnsembleMeasure:
    """Everything that measuring an ensemble on a case takes; may be sent to another process.

    Attributes:
        references: case -> reference.
        predictions: case -> candidate -> prediction.
        structure, scored_as: whose metrics are taken, in the cards' word and in the references'.
        average: "probability" or "logit".
        tolerance_mm: of the NSD.
    """

    references: Mapping[str, CaseReference]
    predictions: Mapping[str, Mapping[str, CasePrediction]]
    structure: str
    scored_as: str
    average: str
    tolerance_mm: float

    def metrics(self, members: Members, case: str) -> tuple[float, ...]:
        """Dice, NSD, HD95 and MASD in mm, volume error in cm³, of one case; in the order of `case_metrics.METRICS`."""
        labels, box, card = self.labels(members, case)
        names = {structure.value: name_of(structure) for structure in card.structures}
        pair = pair_with(self.references[case], labels, box, names)
        options = EvaluationOptions(
            structures=(self.scored_as,), tolerances_mm=(self.tolerance_mm,), empty="penalty", methods=("ensemble",)
        )
        found = {value.metric: value.value for value in score_pair(pair, options).values if value.component == 0}
        keys = ("dice", nsd_key(self.tolerance_mm), "hd95", "masd", "volume_error")
        return tuple(found[key] for key in keys)

    def labels(self, members: Members, case: str) -> tuple[np.ndarray, Box, ModelCard]:
        """Labels (z, y, x) of a box of the image, and the card that says what they mean; outside there are none."""
        predictions = [self.predictions[case][name] for name in members.names]
        card = card_together(zip((one.checkpoint for one in predictions), members.weights, strict=True), self.average)
        heads, box = deciding_heads(card, self.structure), Box.around(one.box for one in predictions)
        if box.empty:
            return np.zeros((0, 0, 0), dtype=np.uint8), EMPTY, card
        pool = OpinionPool(self.average)
        for prediction, weight in zip(predictions, members.weights, strict=True):
            own = prediction.checkpoint.card
            for head in deciding_heads(own, self.structure):
                names = names_found(own, head)
                volumes = prediction.file.read(names, box)
                pool.add(names, volumes, overlapping=head.overlapping, weight=weight)
        card = replace(card, heads=heads)
        return *_composed(pool.result(), box, card, self.references[case].grid.spacing_xyz), card


def deciding_box(
    file: PredictionFile, own: Sequence[tuple[Head, Sequence[str]]], floors: Mapping[str, float], *, average: str
) -> Box:
    """The box around all voxels of a prediction that may become a structure in some ensemble.

    A weighted mean reaches a structure's floor only where a member does, and so does a mean of log-odds. A logarithmic
    average of several classes that exclude each other may exceed all its members, so there the whole kept box counts.

    Args:
        file: the kept maps.
        own: the heads that decide, with the names of what they find.
        floors: structure name -> least probability from which on any candidate's rules take it.
        average: "probability" or "logit".
    """
    if average == "logit" and any(not head.overlapping and len(names) > 1 for head, names in own):
        return file.box
    maps = file.read([name for _, names in own for name in names], file.box)
    if file.box.empty:
        return EMPTY
    return Box.of(_possible(maps, floors), file.box.start_zyx)


def _possible(maps: Mapping[str, np.ndarray], floors: Mapping[str, float]) -> np.ndarray:
    return np.any([maps[name] >= floor * _ROUNDING for name, floor in floors.items()], axis=0)


def _composed(
    maps: Mapping[str, np.ndarray], box: Box, card: ModelCard, spacing_xyz: Sequence[float]
) -> tuple[np.ndarray, Box]:
    """The labels in the box around all that may become one."""
    floors = {name: floor_of(head) for head in card.heads for name in names_found(card, head)}
    inner = Box.of(_possible(maps, floors), box.start_zyx)
    if inner.empty:
        return np.zeros((0, 0, 0), dtype=np.uint8), EMPTY
    image = sitk.Image(inner.shape_zyx[::-1], sitk.sitkUInt8)
    image.SetSpacing(spacing_xyz)
    cut = {name: volume[inner.inside(box)] for name, volume in maps.items()}
    return compose_labels(cut, image, [card], card.structures), inner
