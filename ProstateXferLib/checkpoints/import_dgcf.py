# SPDX-License-Identifier: Apache-2.0
"""Importing a DGCF generator (`best_net_G.pth`) together with the DINOv3 whose features it was trained on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ProstateXferLib.checkpoints.card import ModelCard, Preprocessing
from ProstateXferLib.checkpoints.file_format import file_sha256, is_checkpoint, read_checkpoint
from ProstateXferLib.checkpoints.foreign import read_foreign, state_dict_of
from ProstateXferLib.checkpoints.hints import card_texts, check_hints, encoder_arguments, numbers
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.intensity import IntensityRule

HU_RANGE = (-1024.0, 2000.0)
"""HU of -1 and 1 (DGCF configuration, population clip)."""
SLICE_SIZE = (256, 256)
SEQUENCES = ("T2w", "CBCT")
_HINTS = ("encoder", "sequence", "encoder_range", "blocks", "resize_yx")


def dgcf_preprocessing(
    sequence: str, *, encoder_range: tuple[float, float] | None = None, resize_yx: tuple[int, int] = SLICE_SIZE
) -> Preprocessing:
    """The reference's rules: MR by its 1st and 99th percentile per patient, CBCT by -1024..2000 HU; 256 x 256 slices.

    For MR the reference feeds its encoder [0, 2] instead of [-1, 1] (a missing "-1"); a checkpoint that was trained so
    needs it so, hence it is the default here.
    """
    if sequence not in SEQUENCES:
        raise ProstateXferError(f"DGCF translates {' or '.join(SEQUENCES)}, not '{sequence}'.")
    magnetic = sequence == "T2w"
    rule = IntensityRule("percentile") if magnetic else IntensityRule("window", *HU_RANGE)
    default_range = (0.0, 2.0) if magnetic else (-1.0, 1.0)
    chosen = tuple(float(v) for v in encoder_range) if encoder_range is not None else default_range
    return Preprocessing(intensity=rule, resize_yx=tuple(resize_yx), encoder_range=chosen)


def import_dgcf(
    content: Mapping[str, Any], state: Mapping[str, Any], hints: dict[str, Any], origin: dict[str, str]
) -> tuple[ModelCard, dict[str, Any]]:
    """Card and weights (`generator.*`, `dino_encoder.*`); without the hint `encoder` the generator alone is stored."""
    from ProstateXferLib.networks.dgcf import DGCF

    check_hints(hints, _HINTS, "a DGCF generator")
    sequence = hints.get("sequence", "T2w")
    generator = DGCF.from_state_dict(state)
    weights = {f"generator.{key}": value for key, value in generator.state_dict().items()}
    arguments: dict[str, Any] = {}
    history = [origin]
    if hints.get("encoder"):
        encoder, arguments, from_file = _encoder(Path(hints["encoder"]), hints)
        weights.update({f"dino_encoder.{key}": value for key, value in encoder.state_dict().items()})
        history.append(from_file)
    if blocks := numbers(hints, "blocks", int):
        arguments["blocks"] = list(blocks)
    defaults = {
        "name": f"dgcf-{'mr' if sequence == 'T2w' else 'cbct'}-to-ct",
        "title": f"DGCF {sequence} to CT ({generator.fusion} fusion, {generator.base_channels} channels)",
        "licence": "not stated: ask the authors of the file",
        "citation": "Zhou et al., DGCF, arXiv:2511.12098",
        "training_data": "not stated",
    }
    card = ModelCard(
        task="synthesis",
        architecture="dgcf",
        arguments=arguments,
        inputs=(sequence,),
        preprocessing=dgcf_preprocessing(
            sequence,
            encoder_range=numbers(hints, "encoder_range", float, 2),
            resize_yx=numbers(hints, "resize_yx", int, 2) or SLICE_SIZE,
        ),
        hu_range=HU_RANGE,
        history=tuple(history),
        **card_texts(hints, defaults),
    )
    return card, weights


def _encoder(path: Path, hints: Mapping[str, Any]):
    """The DINOv3 of a foreign file or of an encoder checkpoint of ours."""
    import torch

    from ProstateXferLib.networks.dinov3 import DINOv3

    settings = {"eps": hints.get("eps"), "rope_dtype": hints.get("rope_dtype")}
    if path.is_file() and is_checkpoint(path):
        card, state = read_checkpoint(path)
        if card.task != "encoder":
            raise ProstateXferError(
                f"'{path.name}' is a {card.task} model: give the DINOv3 encoder that DGCF was trained with."
            )
        settings = {key: card.arguments.get(key) if value is None else value for key, value in settings.items()}
    else:
        state = state_dict_of(read_foreign(path))
    encoder = DINOv3.from_state_dict(state, **settings)
    rope = "bf16" if encoder.rope_dtype == torch.bfloat16 else "fp32"
    arguments = encoder_arguments(dict(hints), eps=encoder.eps, rope_dtype=rope)
    return encoder, arguments, {"encoder_from": path.name, "sha256": file_sha256(path)}
