# SPDX-License-Identifier: Apache-2.0
"""The copy of a checkpoint or ensemble whose card has temperatures."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ProstateXferLib.checkpoints.calibration import Calibration
from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.checkpoints.ensemble_card import is_ensemble
from ProstateXferLib.checkpoints.ensemble_members import find_member_paths
from ProstateXferLib.checkpoints.file_format import SUFFIX, read_checkpoint, write_checkpoint
from ProstateXferLib.checkpoints.loading import Checkpoint, load_checkpoint
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import require_folder_of
from ProstateXferLib.pipelines.provenance import library_versions


def check_calibrated_checkpoint(checkpoint: Checkpoint, output: Path) -> None:
    """Refuse before long work what cannot be copied, or not to there.

    Raises:
        ProstateXferError: an nnU-Net folder, a wrong ending, the file itself, a missing folder, or an ensemble whose
            members would not be found from there.
    """
    if checkpoint.path.is_dir():
        raise ProstateXferError(
            f"'{checkpoint.path}' is an nnU-Net folder, which has no card to write to: make one file of it first "
            f"(prostatexfer import {checkpoint.path.name} OUT{SUFFIX}) and calibrate that."
        )
    if output.suffix != SUFFIX:
        raise ProstateXferError(f"A checkpoint's file name must end in {SUFFIX}; '{output.name}' does not.")
    if output.resolve() == checkpoint.path.resolve():
        raise ProstateXferError(f"'{output}' is the model itself: give the calibrated copy another name.")
    require_folder_of(output)
    if is_ensemble(checkpoint.card):
        try:
            find_member_paths(checkpoint.card, output)
        except ProstateXferError as error:
            raise ProstateXferError(
                f"The members of '{checkpoint.card.name}' would not be found from '{output.parent}' ({error}): write "
                "the calibrated ensemble beside the first one."
            ) from error


def write_calibrated_checkpoint(
    checkpoint: Checkpoint, calibrations: Sequence[Calibration], output: Path
) -> Checkpoint:
    """Write the same weights with a card that has these temperatures; those of other structures stay."""
    card, state = read_checkpoint(checkpoint.path)
    write_checkpoint(output, _with(card, calibrations, checkpoint), state)
    return load_checkpoint(output)


def _with(card: ModelCard, calibrations: Sequence[Calibration], checkpoint: Checkpoint) -> ModelCard:
    new = {one.structure: one for one in calibrations}
    kept = [one for one in card.calibration if one.structure not in new]
    entry = {
        "stage": "calibration",
        "start": {"file": checkpoint.path.name, "sha256": checkpoint.sha256},
        "temperatures": {one.structure: one.temperature for one in calibrations},
        "versions": library_versions(),
    }
    return dataclasses.replace(card, calibration=(*kept, *calibrations), history=(*card.history, entry))
