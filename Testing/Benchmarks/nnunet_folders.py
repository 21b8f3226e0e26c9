# SPDX-License-Identifier: Apache-2.0
"""nnU-Net results folders for the benchmarks: networks of nnU-Net's own size, planned by its rule."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "Python"))

from nnunet_results.folders import arch_kwargs, configuration, write_folder

from ProstateXferLib.networks.dense import dense_network
from ProstateXferLib.networks.unet_planning import planned_unet


@dataclass(frozen=True)
class Plan:
    """A configuration of nnU-Net: its name, the sides of a window, the spacing in mm, channels of the first stage."""

    name: str
    patch: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    base_features: int = 32
    classes: int = 3

    def architecture(self) -> dict[str, Any]:
        """The arguments of the network, as `dense_network` takes them."""
        return planned_unet(
            self.patch, self.spacing_mm, channels=1, classes=self.classes, base_features=self.base_features
        )


# 24 slices of 320 x 320, 0.6 x 0.6 x 3 mm, are an ordinary prostate T2w: four windows a slice, 32 windows a volume.
PLAN_2D = Plan("2d", (256, 256), (0.6, 0.6))
PLAN_3D = Plan("3d_fullres", (16, 128, 128), (3.0, 0.6, 0.6))


def results_folder(folder: Path, plan: Plan, weights: Mapping[str, torch.Tensor] | None = None) -> Path:
    """A results folder of this plan, with random weights unless some are given."""
    planned = plan.architecture()
    dimensions = len(plan.patch)
    settings = configuration(dimensions, patch_size=list(plan.patch), spacing=list(plan.spacing_mm))
    known = arch_kwargs(dimensions)
    settings["architecture"]["arch_kwargs"] = known | {key: planned[key] for key in known if key in planned}
    # What nnU-Net itself asks for beyond what a prediction needs.
    settings["resampling_fn_seg"] = settings["resampling_fn_data"]
    settings["resampling_fn_seg_kwargs"] = {**settings["resampling_fn_data_kwargs"], "is_seg": True, "order": 1}
    settings["architecture"]["_kw_requires_import"] = ["conv_op", "norm_op", "dropout_op", "nonlin"]
    if weights is None:
        torch.manual_seed(0)
        weights = dense_network("plain_conv_unet", planned).state_dict()
    labels = {"background": 0, "prostate": 1, "lesion": 2}
    return write_folder(
        folder,
        settings,
        weights=weights,
        name=plan.name,
        dataset={"labels": dict(list(labels.items())[: plan.classes]), "numTraining": 1},
        mirror_axes=_all_axes(plan.patch),
        foreground_intensity_properties_per_channel={"0": {}},
        plans_name="nnUNetPlans",
    )


def _all_axes(patch: Sequence[int]) -> tuple[int, ...]:
    return tuple(range(len(patch)))
