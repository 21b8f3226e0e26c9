# SPDX-License-Identifier: Apache-2.0
"""What a card says about the stage that made it: enough to make it again and to check its data, and no one's name."""

import platform
from collections.abc import Mapping
from typing import Any

import torch

from ProstateXferLib.training.engine.early_stopping import Selected
from ProstateXferLib.training.recipe.reading import recipe_sha256
from ProstateXferLib.training.recipe.schema import Chain, Stage
from ProstateXferLib.version import __version__


def history_entry(chain: Chain, stage: Stage, record: Mapping[str, Any], selected: Selected) -> dict[str, Any]:
    """One entry of `ModelCard.history`; JSON values (docs/training.md, "Contracts").

    Args:
        chain, stage: what was trained.
        record: the stage's start (and checkpoints that its settings name), data and split, as its split.json has them.
        selected: which weights these are.
    """
    return {
        "stage": stage.name,
        "recipe": {"name": chain.name, "sha256": recipe_sha256(chain)},
        "start": record["start"],
        **({"checkpoints": record["checkpoints"]} if "checkpoints" in record else {}),
        "data": record["data"],
        "split": record["split"],
        "steps": selected.step,
        "seed": chain.seed,
        "selected": {"metric": selected.metric, "value": selected.value, "step": selected.step},
        "versions": {
            "prostatexfer": __version__,
            "torch": torch.__version__.split("+")[0],
            "python": platform.python_version(),
        },
    }
