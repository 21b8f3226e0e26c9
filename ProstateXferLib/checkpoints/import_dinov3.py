# SPDX-License-Identifier: Apache-2.0
"""Importing a DINOv3 encoder in any of its four namings."""

from collections.abc import Mapping
from typing import Any

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.checkpoints.hints import card_texts, check_hints, encoder_arguments

DINOV3_LICENCE = "DINOv3 License (Meta); pass on only under its terms"
DINOV3_CITATION = "Siméoni et al., DINOv3, arXiv:2508.10104"
MEDDINOV3_CITATION = "Li et al., MedDINOv3, arXiv:2509.02379"


def import_dinov3(
    content: Mapping[str, Any], state: Mapping[str, Any], hints: dict[str, Any], origin: dict[str, str]
) -> tuple[ModelCard, dict[str, Any]]:
    """Card and weights in Meta's names; the settings that the naming implies go into the card."""
    import torch

    from ProstateXferLib.networks.dinov3 import DINOv3

    check_hints(hints, (), "a DINOv3 encoder")
    network = DINOv3.from_state_dict(state, eps=hints.get("eps"), rope_dtype=hints.get("rope_dtype"))
    rope = "bf16" if network.rope_dtype == torch.bfloat16 else "fp32"
    medical = rope == "bf16"
    defaults = {
        "name": f"dinov3-w{network.width}-d{network.depth}",
        "title": f"DINOv3 ViT encoder, width {network.width}, {network.depth} blocks",
        "licence": "Apache-2.0 as tagged by its authors" if medical else DINOV3_LICENCE,
        "citation": MEDDINOV3_CITATION if medical else DINOV3_CITATION,
        "training_data": "CT-3M (CT slices, self-supervised)"
        if medical
        else "LVD-1689M or as stated by the file's source",
    }
    card = ModelCard(
        task="encoder",
        architecture="dinov3",
        arguments=encoder_arguments(hints, eps=network.eps, rope_dtype=rope),
        inputs=(),
        history=(origin,),
        **card_texts(hints, defaults),
    )
    return card, network.state_dict()
