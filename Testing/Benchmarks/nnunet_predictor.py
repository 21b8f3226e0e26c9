# SPDX-License-Identifier: Apache-2.0
"""nnU-Net's own predictor on a results folder, where nnunetv2 is installed (the extra `compare`)."""

import contextlib
import importlib.util
import io
import json
import os
from pathlib import Path
from typing import Any

import torch

INSTALL = "nnunetv2 is not installed, so nnU-Net's own predictor is left out: pip install 'prostatexfer[compare]'"


def has_nnunet() -> bool:
    """Whether the comparison can be made."""
    return importlib.util.find_spec("nnunetv2") is not None


def nnunet_predictor(folder: Path, *, mirror: bool, step: float = 0.5) -> Any:
    """An `nnUNetPredictor` with the weights of fold 0.

    Weights are loaded by our names: nnU-Net's files hold every tensor several times, under names that our networks do
    not have and that share their memory there.
    """
    # As many threads as ours has: on export nnU-Net takes eight otherwise, however few processors there are.
    os.environ.setdefault("nnUNet_def_n_proc", str(torch.get_num_threads()))
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    checkpoint = torch.load(folder / "fold_0" / "checkpoint_final.pth", map_location="cpu", weights_only=False)
    plans = PlansManager(json.loads((folder / "plans.json").read_text(encoding="utf-8")))
    dataset = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    configuration = plans.get_configuration(checkpoint["init_args"]["configuration"])
    network = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        1,
        len(dataset["labels"]),
        deep_supervision=False,
    )
    missing = network.load_state_dict(checkpoint["network_weights"], strict=False).missing_keys
    if any("all_modules" not in key and not key.startswith("decoder.encoder") for key in missing):
        raise ValueError(f"nnU-Net's network lacks weights: {missing[:3]}")
    with contextlib.redirect_stdout(io.StringIO()):  # it says that it has no CUDA device
        predictor = nnUNetPredictor(
            tile_step_size=step, use_mirroring=mirror, device=torch.device("cpu"), allow_tqdm=False
        )
    predictor.manual_initialization(
        network,
        plans,
        configuration,
        [network.state_dict()],
        dataset,
        "nnUNetTrainer",
        checkpoint["inference_allowed_mirroring_axes"],
    )
    network.eval()
    return predictor
