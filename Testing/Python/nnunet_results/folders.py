# SPDX-License-Identifier: Apache-2.0
"""Writes a results folder as nnU-Net's training does, with a small random network or weights that are given."""

import json

import numpy as np
import torch

from ProstateXferLib.networks.dense import dense_network

LABELS = {"background": 0, "prostate": 1, "lesion": 2}
_CLASSES = {"plain_conv_unet": "unet.PlainConvUNet", "residual_encoder_unet": "unet.ResidualEncoderUNet"}


def arch_kwargs(dimensions, *, residual=False):
    """The arguments nnU-Net's plans would give a network of two stages."""
    return {
        "n_stages": 2,
        "features_per_stage": [2, 4],
        "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
        "kernel_sizes": [[3] * dimensions] * 2,
        "strides": [[1] * dimensions, [2] * dimensions],
        "n_blocks_per_stage" if residual else "n_conv_per_stage": [1, 1],
        "n_conv_per_stage_decoder": [1],
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


def configuration(dimensions=3, *, channels=1, residual=False, **changes):
    """One configuration of plans.json."""
    resampling = {"order_z": 0, "force_separate_z": None}
    kind = "residual_encoder_unet" if residual else "plain_conv_unet"
    values = {
        "preprocessor_name": "DefaultPreprocessor",
        "patch_size": [8] * dimensions,
        "spacing": [1.0] * dimensions,
        "normalization_schemes": ["ZScoreNormalization"] * channels,
        "use_mask_for_norm": [False] * channels,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, **resampling},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, **resampling},
        "architecture": {
            "network_class_name": f"dynamic_network_architectures.architectures.{_CLASSES[kind]}",
            "arch_kwargs": arch_kwargs(dimensions, residual=residual),
        },
    }
    return {**values, **changes}


def random_weights(dimensions=3, *, channels=1, classes=3, residual=False, seed=0):
    """State dict of the network of `configuration`."""
    torch.manual_seed(seed)
    kind = "residual_encoder_unet" if residual else "plain_conv_unet"
    arguments = arch_kwargs(dimensions, residual=residual)
    network = dense_network(kind, {**arguments, "input_channels": channels, "num_classes": classes})
    return {name: tensor + 0.05 * torch.randn_like(tensor) for name, tensor in network.state_dict().items()}


def write_folder(
    folder, settings=None, *, folds=("0",), weights=None, name="3d_fullres", dataset=None, mirror_axes=(0,), **plans
):
    """A results folder; `weights` is a state dict or a function of the fold's name, `plans` are keys of plans.json."""
    settings = settings or configuration()
    folder.mkdir(parents=True)
    content = {
        "dataset_name": "Dataset007_Test",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "image_reader_writer": "SimpleITKIO",
        "configurations": {name: settings},
        **plans,
    }
    (folder / "plans.json").write_text(json.dumps(content), encoding="utf-8")
    about = {"channel_names": {"0": "T2"}, "labels": LABELS, "file_ending": ".nii.gz", **(dataset or {})}
    (folder / "dataset.json").write_text(json.dumps(about), encoding="utf-8")
    for fold in folds:
        (folder / f"fold_{fold}").mkdir()
        state = weights(fold) if callable(weights) else weights or random_weights()
        torch.save(
            {
                "network_weights": state,
                "logging": {"train_losses": [np.float64(0.5), np.float32(0.25)]},  # as real ones have
                "init_args": {"configuration": name, "fold": fold},
                "trainer_name": "nnUNetTrainer",
                "inference_allowed_mirroring_axes": mirror_axes,
            },
            folder / f"fold_{fold}" / "checkpoint_final.pth",
        )
    return folder
