# SPDX-License-Identifier: Apache-2.0
"""Making an ensemble: one small file that names its members (docs/ensembles.md). A `Segmenter` runs it."""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ProstateXferLib.checkpoints.card import Score
from ProstateXferLib.checkpoints.ensemble_card import MEMBERS_SUFFIX, EnsembleMember, is_ensemble, merged_card
from ProstateXferLib.checkpoints.ensemble_members import find_member_paths
from ProstateXferLib.checkpoints.file_format import SUFFIX, write_checkpoint
from ProstateXferLib.checkpoints.loading import Checkpoint, load_checkpoint
from ProstateXferLib.checkpoints.nnunet_folder import nnunet_files, results_folder
from ProstateXferLib.checkpoints.registry import models_folders
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import atomic_file, make_folder


def make_ensemble(
    path: Path | str,
    members: Sequence[Checkpoint | Path | str],
    weights: Sequence[float] | None = None,
    average: str = "probability",
    name: str | None = None,
    title: str = "",
    *,
    scores: Sequence[Score] = (),
    history: Sequence[dict[str, Any]] = (),
    copy_members: bool = False,
) -> Checkpoint:
    """Write an ensemble and open it.

    Args:
        path: to write; ends in .safetensors.
        members: checkpoints, files, nnU-Net folders or registered names; one given twice has the sum of its weights.
        weights: one for each, above 0; they are divided by their sum. None makes them equal.
        average: "probability" or "logit".
        name, title: for the card; the name is the file's where it is None.
        scores, history: for the card: results on cases that neither trained nor chose the members, and how they were
            chosen.
        copy_members: copy members that would not be found from where the ensemble lies into "NAME.members" beside it.

    Raises:
        ProstateXferError: wrong ending or weights, no such member, one that does not segment, is an ensemble or cannot
            be averaged with the others, or that would not be found again.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise ProstateXferError(f"An ensemble is a checkpoint: its file name must end in {SUFFIX}, not '{path.name}'.")
    opened = [item if isinstance(item, Checkpoint) else load_checkpoint(item) for item in members]
    for checkpoint in opened:
        _check_member(checkpoint)
    shares = _shares(opened, weights)
    distinct = list({checkpoint.sha256: checkpoint for checkpoint in opened}.values())
    places = [_place(checkpoint, path, copy_members) for checkpoint in distinct]
    entries = [
        EnsembleMember(checkpoint.card.name, checkpoint.sha256, shares[checkpoint.sha256], place)
        for checkpoint, place in zip(distinct, places, strict=True)
    ]
    cards = [checkpoint.card for checkpoint in distinct]
    card = merged_card(
        cards, entries, average=average, name=name or path.stem, title=title, scores=scores, history=history
    )
    for checkpoint, place in zip(distinct, places, strict=True):
        _copy(checkpoint, path.absolute().parent / place, path)
    write_checkpoint(path, card, {})
    find_member_paths(card, path)
    return load_checkpoint(path)


def _check_member(checkpoint: Checkpoint) -> None:
    card = checkpoint.card
    if card.task != "segmentation":
        raise ProstateXferError(f"'{card.name}' is a {card.task} model: only models that segment can be averaged.")
    if is_ensemble(card):
        raise ProstateXferError(f"'{card.name}' is an ensemble itself: give its members one by one.")


def _shares(opened: Sequence[Checkpoint], weights: Sequence[float] | None) -> dict[str, float]:
    """sha256 -> weight; they sum to 1."""
    if not opened:
        raise ProstateXferError("An ensemble needs at least one member.")
    given = [1.0] * len(opened) if weights is None else list(weights)
    if len(given) != len(opened):
        raise ProstateXferError(f"{len(opened)} members have {len(given)} weights: give one for each.")
    if not all(math.isfinite(weight) and weight > 0 for weight in given):
        raise ProstateXferError(f"The weights {given} are not all above 0: leave out who does not count.")
    total, shares = math.fsum(given), {}
    for checkpoint, weight in zip(opened, given, strict=True):
        shares[checkpoint.sha256] = shares.get(checkpoint.sha256, 0.0) + weight / total
    return shares


def _place(checkpoint: Checkpoint, ensemble: Path, copy: bool) -> str:
    """Where the ensemble looks for a member first: below its own folder, or in a models folder."""
    source, beside = checkpoint.path.absolute(), ensemble.absolute().parent
    if source.is_relative_to(beside):
        return source.relative_to(beside).as_posix()
    for folder in models_folders():
        if source.is_relative_to(folder.absolute()):
            return source.relative_to(folder.absolute()).as_posix()
    if copy:
        whole = results_folder(source)  # a fold keeps its name, and its place beside the plans
        inside = "" if whole == source else f"/{source.name}"
        return f"{ensemble.stem}{MEMBERS_SUFFIX}/{checkpoint.sha256[:8]}-{whole.name}{inside}"
    raise ProstateXferError(
        f"'{source}' lies neither below the ensemble's folder '{beside}' nor in a models folder and would not be found "
        "again: write the ensemble further up, or have the members copied (--copy-members)."
    )


def _copy(checkpoint: Checkpoint, target: Path, ensemble: Path) -> None:
    """Only what goes into the ensemble's own folder of members, and only what is not there yet."""
    source = checkpoint.path.absolute()
    whole = results_folder(source)
    copied_whole = target if whole == source else target.parent
    if copied_whole.parent.name != f"{ensemble.stem}{MEMBERS_SUFFIX}" or target.exists() or source == target:
        return
    files = {file: copied_whole / file.relative_to(whole) for file in nnunet_files(source)} if source.is_dir() else None
    for file, copied in (files or {source: target}).items():
        make_folder(copied.parent)
        with atomic_file(copied) as temporary:
            shutil.copyfile(file, temporary)
