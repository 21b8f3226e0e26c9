# SPDX-License-Identifier: Apache-2.0
"""PI-CAI's own figures of the confidences, by its package; the maps are read a second time for it."""

from collections.abc import Iterator

import numpy as np

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.evaluation.evaluate_case import read_pair
from ProstateXferLib.evaluation.evaluation import Evaluation
from ProstateXferLib.evaluation.label_pair import read_labels
from ProstateXferLib.evaluation.lesion_scores import read_confidence
from ProstateXferLib.images.whole_structure import whole_structure_mask
from ProstateXferLib.metrics.picai import PicaiScore, picai_eval, picai_score
from ProstateXferLib.metrics.picai_candidates import detection_map
from ProstateXferLib.progress import Progress, raise_if_cancelled


def picai_of(evaluation: Evaluation, progress: Progress) -> tuple[PicaiScore | None, str]:
    """The score of the first method's confidences, or a sentence why there is none.

    Maps of probabilities become detection maps by PI-CAI's candidate extraction.
    """
    if not evaluation.lesion_structures:
        return None, ""
    try:
        picai_eval()
        return picai_score(_pairs(evaluation, evaluation.lesion_structures[0], progress)), ""
    except ProstateXferError as error:
        return None, f"PI-CAI's score was left out: {error}"


def _pairs(evaluation: Evaluation, structure: str, progress: Progress) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(reference, detection map), one exam at a time."""
    options = evaluation.options
    method = options.methods[0]
    for number, case in enumerate(evaluation.files):
        raise_if_cancelled(progress)
        progress.update("PI-CAI's score", number / evaluation.n_cases)
        if "confidence" not in case.files or evaluation.method(number, method).failure:
            continue
        pair = read_pair(case.files, "prediction", read_labels(case.files["reference"]), options)
        found = read_confidence(case.files["confidence"], pair.grid, resample=options.resample)
        truth = np.zeros(pair.grid.shape_zyx, dtype=bool)
        wanted = [s for s in pair.structures if s.name == structure]
        for one in wanted:
            truth[pair.box] = whole_structure_mask(pair.reference_zyx, one, pair.structures)
        yield truth, found.voxels_zyx if found.per_component else detection_map(found.voxels_zyx)
