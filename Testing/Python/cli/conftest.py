# SPDX-License-Identifier: Apache-2.0
"""A models folder with tiny models under the shipped models' names."""

import dataclasses
import hashlib

import numpy as np
import pytest
import SimpleITK as sitk
from model_files.registry import register

from ProstateXferLib.checkpoints.file_format import write_checkpoint


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory, threshold_state, segmentation_card, pointwise_state, synthesis_card):
    """Folder with registry.json: gland = brighter than 300.5, DIL = darker than -300.5 near it; CT = tanh of the input.

    The values hold for images scaled from -1000..1000 to -1..1.
    """
    folder = tmp_path_factory.mktemp("models")
    gland = segmentation_card("gland", "dil")
    largest = dataclasses.replace(gland.heads[0], largest_only=True)
    models = {
        "prostate-dil-small": (
            dataclasses.replace(gland, name="prostate-dil-small", heads=(largest, gland.heads[1])),
            threshold_state(gland=(0.3005,), dil=(0.3005,), inverted=("dil",)),
        ),
        "dgcf-mr-to-ct-small": (synthesis_card("T2w", name="dgcf-mr-to-ct-small"), pointwise_state()),
        "dgcf-cbct-to-ct-small": (synthesis_card("CBCT", name="dgcf-cbct-to-ct-small"), pointwise_state()),
    }
    entries = []
    for name, (card, state) in models.items():
        path = write_checkpoint(folder / f"{name}.safetensors", card, state)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        entries.append({"name": name, "task": card.task, "title": "tiny", "file": path.name, "sha256": sha256})
    register(folder, *entries)
    return folder


@pytest.fixture
def offline_models(tiny_models, monkeypatch):
    """The folder as an offline user has it: named by PROSTATEXFER_MODELS."""
    monkeypatch.setenv("PROSTATEXFER_MODELS", str(tiny_models))
    return tiny_models


@pytest.fixture
def noise_file(tmp_path):
    """t2w.nii.gz: noise of 9 x 12 x 10 voxels of 1 mm."""
    values = np.random.default_rng(0).normal(size=(10, 12, 9)).astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(values), tmp_path / "t2w.nii.gz")
    return tmp_path / "t2w.nii.gz"
