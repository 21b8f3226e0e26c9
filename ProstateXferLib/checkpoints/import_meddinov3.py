# SPDX-License-Identifier: Apache-2.0
"""Importing a MedDINOv3-style segmentation network: `dino_encoder.*` and `up_projection.decode.*`.

Such files are nnU-Net checkpoints; labels, spacing and intensity rule are read from the plans inside them where they
are there, and from the user's hints first.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ProstateXferLib.checkpoints.card import Head, ModelCard, Preprocessing
from ProstateXferLib.checkpoints.hints import card_texts, check_hints, encoder_arguments
from ProstateXferLib.checkpoints.import_dinov3 import MEDDINOV3_CITATION
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.intensity import IntensityRule
from ProstateXferLib.images.structures import Structure, generic_structure, structure_by_name

_HINTS = ("structures", "spacing_yx_mm", "tile_yx", "blocks")
DEFAULT_TILE = (320, 320)
"""A prostate T2w plan's usual patch; the network itself takes any multiple of 16."""


def import_meddinov3(
    content: Mapping[str, Any], state: Mapping[str, Any], hints: dict[str, Any], origin: dict[str, str]
) -> tuple[ModelCard, dict[str, Any]]:
    """Card and weights under their published names."""
    import torch

    from ProstateXferLib.networks.mr_dinov3 import MRDINOv3

    check_hints(hints, _HINTS, "a MedDINOv3 segmentation network")
    blocks = tuple(hints["blocks"]) if hints.get("blocks") else None
    network = MRDINOv3.from_state_dict(state, eps=hints.get("eps"), rope_dtype=hints.get("rope_dtype"), blocks=blocks)
    encoder = network.dino_encoder
    plan = _plan_of(content)
    heads, structures = _heads_and_structures(network, hints, plan)
    defaults = {
        "name": "meddinov3-segmentation",
        "title": "MedDINOv3-style segmentation network",
        "licence": "not stated: ask the authors of the file",
        "citation": MEDDINOV3_CITATION,
        "training_data": str(plan.get("dataset_name", "not stated")),
    }
    rope = "bf16" if encoder.rope_dtype == torch.bfloat16 else "fp32"
    card = ModelCard(
        task="segmentation",
        architecture="mr_dinov3",
        arguments={
            **encoder_arguments(hints, eps=encoder.eps, rope_dtype=rope),
            "blocks": list(network.blocks),
        },
        preprocessing=_preprocessing(hints, plan),
        structures=structures,
        heads=heads,
        history=(origin,),
        **card_texts(hints, defaults),
    )
    return card, network.state_dict()


def _plan_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """What nnU-Net's `init_args` tell: dataset, labels, configuration (merged with the one it inherits from)."""
    arguments = content.get("init_args")
    if not isinstance(arguments, Mapping) or not isinstance(arguments.get("plans"), Mapping):
        return {}
    plans, dataset = arguments["plans"], arguments.get("dataset_json") or {}
    configurations = plans.get("configurations", {})
    name, merged = arguments.get("configuration"), {}
    while name in configurations:
        merged = {**configurations[name], **merged}
        name = configurations[name].get("inherits_from")
    intensities = plans.get("foreground_intensity_properties_per_channel", {})
    return {
        "dataset_name": plans.get("dataset_name", "not stated"),
        "labels": dataset.get("labels", {}),
        "configuration": merged,
        "intensity": intensities.get("0", {}),
    }


def _heads_and_structures(network, hints: Mapping[str, Any], plan: Mapping[str, Any]):
    heads, structures, value = [], [], 0
    names = _structure_names(hints, plan, sum(head.classes - 1 for head in network.heads.values()))
    for head_name, head in network.heads.items():
        values = tuple(range(value + 1, value + head.classes))
        heads.append(Head(head_name, values))
        structures += [_structure(names[v - 1], v) for v in values]
        value += head.classes - 1
    return tuple(heads), tuple(structures)


def _structure_names(hints: Mapping[str, Any], plan: Mapping[str, Any], count: int) -> Sequence[str]:
    names = hints.get("structures")
    if not names and plan.get("labels"):
        numbered = {v: k for k, v in plan["labels"].items() if isinstance(v, int) and v > 0}
        if sorted(numbered) == list(range(1, count + 1)):
            names = [numbered[v] for v in range(1, count + 1)]
    if not names:
        return [f"Label {value}" for value in range(1, count + 1)]
    if len(names) != count:
        raise ProstateXferError(
            f"The network has {count} classes beside the background, but {len(names)} names were given."
        )
    return list(names)


def _structure(name: str, value: int) -> Structure:
    try:
        return structure_by_name(name).with_value(value)
    except ProstateXferError:  # a name of the user's own: kept, without codes
        return generic_structure(value, name)


def _preprocessing(hints: Mapping[str, Any], plan: Mapping[str, Any]) -> Preprocessing:
    configuration = plan.get("configuration", {})
    spacing = hints.get("spacing_yx_mm") or (configuration.get("spacing") or [None, None])[-2:]
    tile = hints.get("tile_yx") or (configuration.get("patch_size") or DEFAULT_TILE)[-2:]
    return Preprocessing(
        intensity=_intensity(configuration, plan.get("intensity", {})),
        spacing_yx_mm=None if spacing[0] is None else (float(spacing[0]), float(spacing[1])),
        tile_yx=(int(tile[0]), int(tile[1])),
    )


def _intensity(configuration: Mapping[str, Any], statistics: Mapping[str, Any]) -> IntensityRule:
    scheme = (configuration.get("normalization_schemes") or ["ZScoreNormalization"])[0]
    if scheme == "ZScoreNormalization":
        return IntensityRule("zscore")
    raise ProstateXferError(
        f"This network was trained with nnU-Net's '{scheme}', which this version does not reproduce "
        "(ZScoreNormalization only): it is not imported, because its results would be wrong."
    )
