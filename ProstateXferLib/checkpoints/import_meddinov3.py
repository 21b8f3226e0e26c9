# SPDX-License-Identifier: Apache-2.0
"""Importing a MedDINOv3-style segmentation network: `dino_encoder.*` and `up_projection.decode.*`.

Such files are nnU-Net checkpoints; labels, spacing and intensity rule are read from the plans inside them where they
are there, and from the user's hints first.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ProstateXferLib.checkpoints.card import Head, ModelCard, Preprocessing
from ProstateXferLib.checkpoints.hints import card_texts, check_hints, encoder_arguments, numbers
from ProstateXferLib.checkpoints.import_dinov3 import MEDDINOV3_CITATION
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.intensity import IntensityRule
from ProstateXferLib.images.structures import Structure, generic_structure, structure_by_name

_HINTS = ("structures", "spacing_yx_mm", "tile_yx", "blocks")
_ZSCORE = "ZScoreNormalization"
DEFAULT_TILE = (320, 320)
"""A prostate T2w plan's usual patch; the network itself takes any multiple of 16."""


def import_meddinov3(
    content: Mapping[str, Any], state: Mapping[str, Any], hints: dict[str, Any], origin: dict[str, str]
) -> tuple[ModelCard, dict[str, Any]]:
    """Card and weights under their published names."""
    import torch

    from ProstateXferLib.networks.mr_dinov3 import MRDINOv3

    check_hints(hints, _HINTS, "a MedDINOv3 segmentation network")
    blocks = numbers(hints, "blocks", int)
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
    """What nnU-Net's `init_args` tell: dataset, labels, and the configuration in use."""
    arguments = content.get("init_args")
    if not isinstance(arguments, Mapping) or not isinstance(arguments.get("plans"), Mapping):
        return {}
    try:
        return _plan_values(arguments["plans"], arguments.get("dataset_json") or {}, arguments.get("configuration"))
    except (TypeError, AttributeError, ValueError, IndexError) as error:
        raise ProstateXferError(f"The nnU-Net plans in the file are malformed ({error}): get it again.") from error


def _plan_values(plans: Mapping[str, Any], dataset: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    configurations, merged = dict(plans.get("configurations", {})), {}
    while name in configurations:  # a configuration may inherit from another; popped, so that no circle catches us
        own = configurations.pop(name)
        merged = {**own, **merged}
        name = own.get("inherits_from")
    spacing, patch = merged.get("spacing"), merged.get("patch_size")
    return {
        "dataset_name": plans.get("dataset_name", "not stated"),
        "labels": dict(dataset.get("labels", {})),
        "spacing_yx_mm": tuple(float(side) for side in spacing[-2:]) if spacing else None,
        "tile_yx": tuple(int(side) for side in patch[-2:]) if patch else None,
        "normalization": (merged.get("normalization_schemes") or [_ZSCORE])[0],
        "slice_axis": (plans.get("transpose_forward") or [0])[0],
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
    names = [names] if isinstance(names, str) else names
    labels = {key: value for key, value in plan.get("labels", {}).items() if key != "ignore"}
    if any(isinstance(value, list | tuple) for value in labels.values()):
        raise ProstateXferError(
            "This network was trained with nnU-Net's overlapping regions, which this version does not reproduce: it is "
            "not imported, because its results would be wrong."
        )
    if not names and labels:
        numbered = {v: str(k) for k, v in labels.items() if isinstance(v, int) and v > 0}
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
    scheme = plan.get("normalization", _ZSCORE)
    if scheme != _ZSCORE:
        raise ProstateXferError(
            f"This network was trained with nnU-Net's '{scheme}', which this version does not reproduce ({_ZSCORE} "
            "only): it is not imported, because its results would be wrong."
        )
    if plan.get("slice_axis", 0) != 0:
        raise ProstateXferError(
            "This network was trained on slices that are not axial (nnU-Net's transpose_forward), which this version "
            "does not reproduce: it is not imported, because its results would be wrong."
        )
    return Preprocessing(
        intensity=IntensityRule("zscore"),
        spacing_yx_mm=numbers(hints, "spacing_yx_mm", float, 2) or plan.get("spacing_yx_mm"),
        tile_yx=numbers(hints, "tile_yx", int, 2) or plan.get("tile_yx") or DEFAULT_TILE,
    )
