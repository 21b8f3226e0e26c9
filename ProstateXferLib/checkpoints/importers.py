# SPDX-License-Identifier: Apache-2.0
"""`import_checkpoint`: a foreign file is recognised by its keys and rewritten as one file with a card."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.checkpoints.file_format import file_sha256, is_checkpoint, write_checkpoint
from ProstateXferLib.checkpoints.foreign import read_foreign, state_dict_of
from ProstateXferLib.checkpoints.import_dgcf import import_dgcf
from ProstateXferLib.checkpoints.import_dinov3 import import_dinov3
from ProstateXferLib.checkpoints.import_meddinov3 import import_meddinov3
from ProstateXferLib.checkpoints.import_nnunet import import_nnunet
from ProstateXferLib.errors import ProstateXferError


def import_checkpoint(source: str | Path, destination: str | Path, **hints: Any) -> Path:
    """Rewrite a foreign checkpoint in ProstateXfer's format.

    Recognised by their keys: DINOv3 encoders (Meta, Hugging Face, timm and MedDINOv3 naming), MedDINOv3 segmentation
    networks (`dino_encoder.*`, `up_projection.*`), DGCF generators (`best_net_G.pth`). By its plans: an nnU-Net
    results folder.

    Args:
        source: .pth, .pt, .bin or .safetensors, or an nnU-Net results folder (TRAINER__PLANS__CONFIGURATION); pickles
            are opened without running anything in them.
        destination: the file to write, ending in .safetensors.
        hints: what the file cannot tell. All kinds: `name`, `title`, `licence`, `citation`, `training_data`, `eps`,
            `rope_dtype`. Segmentation: `structures` (names in class order), `spacing_yx_mm`, `tile_yx`, `blocks`.
            DGCF: `encoder` (path of its DINOv3, foreign or imported), `sequence` ("T2w" or "CBCT"), `encoder_range`,
            `blocks`. nnU-Net folders: `fold` (a number, "all" or several; all numbered ones, in one file), `checkpoint`
            (file name; checkpoint_final.pth), `inputs` (sequence names in channel order), `structures`, `blocks`.

    Returns:
        The destination.

    Raises:
        ProstateXferError: unreadable, unsafe, of no known kind, inconsistent, or an unknown hint.
    """
    source, destination = Path(source), Path(destination)
    if source.is_file() and is_checkpoint(source):
        raise ProstateXferError(f"'{source.name}' is a ProstateXfer checkpoint already: use it as it is.")
    if source.is_dir():
        card, weights = import_nnunet(source, dict(hints))
    else:
        content = read_foreign(source)
        state = state_dict_of(content)
        origin = {"imported_from": source.name, "sha256": file_sha256(source)}
        card, weights = _importer_of(source, state)(content, state, dict(hints), origin)
    _check_builds(card, weights)
    return write_checkpoint(destination, card, weights)


def _importer_of(source: Path, state: Mapping[str, Any]):
    from ProstateXferLib.networks.dgcf import is_dgcf
    from ProstateXferLib.networks.dinov3_names import is_dinov3
    from ProstateXferLib.networks.mr_dinov3 import ENCODER_PREFIX

    if any(str(key).startswith(ENCODER_PREFIX) for key in state):
        return import_meddinov3
    if is_dgcf(state):
        return import_dgcf
    if is_dinov3(state):
        return import_dinov3
    first = next(iter(state), "(empty)")
    raise ProstateXferError(
        f"'{source.name}' is no checkpoint that ProstateXfer knows (its first key is '{first}'): DINOv3, MedDINOv3 "
        "segmentation and DGCF files can be imported, and nnU-Net by its whole results folder."
    )


def _check_builds(card: ModelCard, weights: Mapping[str, Any]) -> None:
    """Build the network once, so that what is written is known to load."""
    from ProstateXferLib.checkpoints.loading import build_network

    build_network(card, weights)
