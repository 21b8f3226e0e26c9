# SPDX-License-Identifier: Apache-2.0
"""Recipes of one round as plain values: two steps of two samples."""


def segmentation_round(**changes):
    """Gland of T2w, by an MR-DINOv3; one of five folds validates. Changes: keys of the stage."""
    stage = {
        "task": "segmentation",
        "network": {"architecture": "mr_dinov3"},
        "settings": {
            "heads": [{"name": "gland", "values": ["Prostate"]}],
            "preprocessing": {"intensity": {"kind": "standardise", "mean": 0, "deviation": 1}, "tile_yx": [64, 64]},
            "training_statistics": True,
            "slices": {"size_yx": [64, 64], "foreground_share": 0.8},
        },
        "split": {"rule": "nnunet", "folds": 5, "fold": 0},
    }
    return _recipe(stage | changes)


def synthesis_round(**arguments):
    """CT from CBCT, by a DGCF; all cases train. Arguments: of the network, beside its channels."""
    return _recipe(
        {
            "task": "synthesis",
            "network": {"architecture": "dgcf", "arguments": {"base_channels": 4, **arguments}},
            "settings": {"sequence": "CBCT", "size_yx": [48, 48]},
            "split": {"rule": "none"},
        }
    )


def _recipe(stage):
    common = {
        "name": "round",
        "data": [{"layout": "cases", "path": "a"}],
        "schedule": {"epochs": 1, "steps_per_epoch": 2},
        "loop": {"batch_size": 2},
    }
    texts = {"title": "toy", "training_data": "discs", "licence": "none", "citation": ""}
    return {"name": "federated-toy", "texts": texts, "stages": [common | stage]}
