# SPDX-License-Identifier: Apache-2.0
"""Where the members of an ensemble are: found by the sha256 of what lies there, never by name alone."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import chain
from pathlib import Path, PurePath, PurePosixPath

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.checkpoints.ensemble_card import EnsembleMember, is_ensemble, members_of
from ProstateXferLib.checkpoints.file_states import FileStates, file_states
from ProstateXferLib.checkpoints.import_nnunet import nnunet_sha256
from ProstateXferLib.checkpoints.known_checksums import known_checksum
from ProstateXferLib.checkpoints.loading import Checkpoint, load_checkpoint
from ProstateXferLib.checkpoints.loose_models import is_model, models_in
from ProstateXferLib.checkpoints.nnunet_folder import fold_folders, is_fold_name
from ProstateXferLib.checkpoints.registry import models_folders
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import file_sha256

_LARGEST_CACHE = 1024


def find_members(card: ModelCard, path: Path, models_folder: Path | None = None) -> tuple[Checkpoint, ...]:
    """The members of an ensemble, opened, in the card's order; arguments and errors as `find_member_paths`."""
    opened = tuple(load_checkpoint(place) for place in find_member_paths(card, path, models_folder))
    for member, checkpoint in zip(members_of(card), opened, strict=True):
        if checkpoint.sha256 != member.sha256:  # hashed anew: what was known of the file is no longer true
            raise _altered(member, card, checkpoint.path)
        if is_ensemble(checkpoint.card):
            raise ProstateXferError(
                f"The ensemble '{card.name}' has the ensemble '{checkpoint.card.name}' as a member: name its members "
                "one by one."
            )
    return opened


def find_member_paths(card: ModelCard, path: Path, models_folder: Path | None = None) -> tuple[Path, ...]:
    """The file or nnU-Net folder of each member, in the card's order.

    Looked for at its `file` below the ensemble's folder and the models folders, then among all checkpoints that lie in
    these folders as `loose_models` finds them, and where it was a single fold also among the folds of nnU-Net folders.
    What lies at the right place with another content is another model.

    Args:
        card: the ensemble's.
        path: of the ensemble.
        models_folder: searched before the other models folders.

    Raises:
        ProstateXferError: a member is missing or was altered; naming it.
    """
    return tuple(find_member_path(member, card, path, models_folder) for member in members_of(card))


def find_member_path(member: EnsembleMember, card: ModelCard, path: Path, models_folder: Path | None = None) -> Path:
    """The file or nnU-Net folder of one member; arguments and errors as `find_member_paths`."""
    folders = list(dict.fromkeys([Path(path).absolute().parent, *models_folders(models_folder)]))
    return _found(member, card, folders)


def content_sha256(path: Path) -> str:
    """sha256 of a checkpoint file, or of an nnU-Net folder's model; hashed again only when a file has changed.

    Large ones are remembered from one run to the next (known_checksums.py).

    Raises:
        ProstateXferError: the folder lacks a file that its model is made of.
    """
    return _sha256(str(path), file_states(path))


@lru_cache(maxsize=_LARGEST_CACHE)
def _sha256(path: str, states: FileStates) -> str:
    place = Path(path)
    return known_checksum(states, lambda: nnunet_sha256(place) if place.is_dir() else file_sha256(place))


def _found(member: EnsembleMember, card: ModelCard, folders: list[Path]) -> Path:
    altered = None
    for place in _places(member, folders):
        try:
            if content_sha256(place) == member.sha256:
                return place
        except ProstateXferError:  # half an nnU-Net folder among the others is no candidate and no reason to stop
            continue
        altered = altered or (place if _last_names(place) == _last_names(PurePosixPath(member.file)) else None)
    if altered is not None:
        raise _altered(member, card, altered)
    raise ProstateXferError(
        f"The member '{member.name}' (sha256 {member.sha256[:12]}…) of the ensemble '{card.name}' is not on this "
        f"machine: put '{member.file}' beside the ensemble or into a models folder."
    )


def _altered(member: EnsembleMember, card: ModelCard, place: Path) -> ProstateXferError:
    return ProstateXferError(
        f"The member '{member.name}' of the ensemble '{card.name}' is not the file it was chosen with: '{place}' "
        f"has another sha256 than {member.sha256[:12]}…; put the right one there."
    )


def _places(member: EnsembleMember, folders: list[Path]) -> Iterator[Path]:
    """Existing checkpoints, the likeliest first, each once."""
    seen: set[Path] = set()
    likely = (folder / member.file for folder in folders)
    others = (path for folder in folders for path in models_in(folder))
    for path in chain((path for path in likely if is_model(path)), others, _folds(member, folders)):
        if path not in seen:
            seen.add(path)
            yield path


def _folds(member: EnsembleMember, folders: list[Path]) -> Iterator[Path]:
    """The folds of the nnU-Net folders; hashing them is left out where the member was none."""
    if is_fold_name(PurePosixPath(member.file).name):
        yield from (
            fold for folder in folders for path in models_in(folder) if path.is_dir() for fold in fold_folders(path)
        )


def _last_names(path: PurePath) -> tuple[str, ...]:
    """What tells a model from others: its name, and of a fold its folder's, since all have a fold_0."""
    return path.parts[-2:] if is_fold_name(path.name) else path.parts[-1:]
