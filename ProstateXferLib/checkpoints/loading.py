# SPDX-License-Identifier: Apache-2.0
"""`load_checkpoint`: a path or a registered name to a card and a network."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ProstateXferLib.checkpoints.architectures import ARCHITECTURES
from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.checkpoints.ensemble_card import is_ensemble
from ProstateXferLib.checkpoints.file_format import file_sha256, read_card, read_checkpoint
from ProstateXferLib.checkpoints.import_nnunet import FOLDS_PREFIX, import_nnunet, nnunet_sha256
from ProstateXferLib.checkpoints.registry import resolve
from ProstateXferLib.errors import ProstateXferError

if TYPE_CHECKING:
    from torch import nn

ENCODER_PREFIX, GENERATOR_PREFIX = "dino_encoder.", "generator."


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk: its card, where it is, and the sha256 of the file (of an nnU-Net folder: of its files')."""

    card: ModelCard
    path: Path
    sha256: str

    def build(self) -> "nn.Module":
        """The network in eval mode, fp32, on the CPU.

        DINOv3, MRDINOv3, GuidedDGCF (DGCF where no encoder is stored), or a dense network (networks/dense.py);
        a FoldEnsemble of them where the file holds several folds of an nnU-Net.

        Raises:
            ProstateXferError: the file was altered, its weights do not fit the architecture of its card, or it is an
                ensemble, which has no network of its own.
        """
        if is_ensemble(self.card):
            raise ProstateXferError(
                f"'{self.card.name}' is an ensemble and has no weights of its own: choose one of its members "
                "(prostatexfer models names them)."
            )
        return build_network(*(import_nnunet(self.path, {}) if self.path.is_dir() else read_checkpoint(self.path)))


def load_checkpoint(path_or_name: str | Path, models_folder: Path | None = None) -> Checkpoint:
    """Open a checkpoint by its path or name (`registry.resolve`); `models_folder` is searched before the others.

    An nnU-Net results folder is opened as it is, with all its numbered folds; the folder of one of its folds with that
    one alone. `import_checkpoint` makes one file of either and lets folds be chosen.

    Raises:
        ProstateXferError: no such file or name, a foreign file (import it first), cut off, or a malformed card.
    """
    path = resolve(path_or_name, models_folder)
    if path.is_dir():
        return Checkpoint(import_nnunet(path, {})[0], path, nnunet_sha256(path))
    return Checkpoint(read_card(path), path, file_sha256(path))


def build_network(card: ModelCard, state: Mapping[str, Any]) -> "nn.Module":
    """The network of a card and its weights, fp32, in eval mode.

    Raises:
        ProstateXferError: the weights do not fit the card.
    """
    state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    if card.preprocessing is not None and card.preprocessing.nnunet is not None:
        return _build_folds(card, state).eval()
    return _build_one(card, state).eval()


def _build_one(card: ModelCard, state: dict[str, Any]) -> "nn.Module":
    build = _build_dense if ARCHITECTURES[card.architecture].dense else _BUILDERS[card.architecture]
    return build(card, state)


def _build_folds(card: ModelCard, state: dict[str, Any]) -> "nn.Module":
    """One network where one fold is stored, else all of them."""
    from ProstateXferLib.networks.fold_ensemble import FoldEnsemble

    folds = card.preprocessing.nnunet.folds
    if len(folds) == 1:
        return _build_one(card, state)
    parts: dict[str, dict[str, Any]] = {fold: {} for fold in folds}
    for key, value in state.items():
        fold, _, name = key.removeprefix(FOLDS_PREFIX).partition(".")
        if not key.startswith(FOLDS_PREFIX) or fold not in parts:
            raise ProstateXferError(f"Key '{key}' of model '{card.name}' is of none of its folds: get the file again.")
        parts[fold][name] = value
    return FoldEnsemble({fold: _build_one(card, part) for fold, part in parts.items()})


def _build_dinov3(card: ModelCard, state: dict[str, Any]) -> "nn.Module":
    from ProstateXferLib.networks.dinov3 import DINOv3

    return DINOv3.from_state_dict(state, **_encoder_arguments(card))


def _build_mr_dinov3(card: ModelCard, state: dict[str, Any]) -> "nn.Module":
    from ProstateXferLib.networks.mr_dinov3 import MRDINOv3

    network = MRDINOv3.from_state_dict(state, **_encoder_arguments(card), blocks=card.arguments.get("blocks"))
    for head in card.heads:
        module = network.heads.get(head.name)
        if module is None or module.classes != head.classes:
            classes = "no such head" if module is None else f"{module.classes} classes"
            raise ProstateXferError(
                f"Model '{card.name}': the card's head '{head.name}' has {head.classes} classes, the "
                f"weights have {classes}: the file is inconsistent, get it again."
            )
    return network


def _build_dgcf(card: ModelCard, state: dict[str, Any]) -> "nn.Module":
    from ProstateXferLib.networks.dgcf import DGCF
    from ProstateXferLib.networks.dinov3 import DINOv3
    from ProstateXferLib.networks.guided_dgcf import GuidedDGCF

    parts = {
        prefix: {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        for prefix in (GENERATOR_PREFIX, ENCODER_PREFIX)
    }
    for key in state:
        if not key.startswith((GENERATOR_PREFIX, ENCODER_PREFIX)):
            raise ProstateXferError(f"Key '{key}' of model '{card.name}' is no part of a DGCF: get the file again.")
    generator = DGCF.from_state_dict(parts[GENERATOR_PREFIX])
    if not parts[ENCODER_PREFIX]:
        return generator
    encoder = DINOv3.from_state_dict(parts[ENCODER_PREFIX], **_encoder_arguments(card))
    return GuidedDGCF(
        generator, encoder, encoder_range=card.preprocessing.encoder_range, blocks=card.arguments.get("blocks")
    )


def _build_dense(card: ModelCard, state: dict[str, Any]) -> "nn.Module":
    from ProstateXferLib.networks.dense import load_dense_network

    return load_dense_network(card.architecture, card.arguments, state)


def _encoder_arguments(card: ModelCard) -> dict[str, Any]:
    return {key: card.arguments.get(key) for key in ("eps", "rope_dtype")}


_BUILDERS = {"dinov3": _build_dinov3, "mr_dinov3": _build_mr_dinov3, "dgcf": _build_dgcf}
