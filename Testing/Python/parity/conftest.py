# SPDX-License-Identifier: Apache-2.0
"""Reads the reference results that lie in Testing/Data/golden (its README.md says how they are packed)."""

import functools
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

GOLDEN = Path(__file__).resolve().parents[2] / "Data" / "golden"


class Golden(dict):
    """The arrays of one file by their reference names."""

    def weights(self, prefix: str) -> dict[str, torch.Tensor]:
        """A state dict: the arrays whose names start with `prefix`, as tensors of their own."""
        return {key.removeprefix(prefix): torch.tensor(self[key]) for key in self if key.startswith(prefix)}

    def tensor(self, name: str) -> torch.Tensor:
        """One array as a tensor of its own."""
        return torch.tensor(self[name])


@functools.cache
def read_golden(name: str) -> Golden:
    with np.load(GOLDEN / name) as file:
        arrays = {key: file[key] for key in file.files}
    for unpack in (_from_planes, _from_seeds, _from_twins):
        arrays = unpack(arrays)
    return Golden(arrays)


def _from_planes(arrays: dict) -> dict:
    """Float32 weights are stored as four planes of bytes, which compress better."""
    if "w_table" not in arrays:
        return arrays
    flat = np.ascontiguousarray(arrays.pop("w_planes").T).view(np.float32).ravel()
    start = 0
    for name, shape in json.loads(str(arrays.pop("w_table"))).items():
        arrays[name] = flat[start : start + int(np.prod(shape))].reshape(shape)
        start += arrays[name].size
    assert start == flat.size
    return arrays


def _from_seeds(arrays: dict) -> dict:
    """Weights that the reference run drew from a generator seeded with their name are drawn again."""
    if "seeded" not in arrays:
        return arrays
    recipe, total = json.loads(str(arrays.pop("seeded"))), 0.0
    for name, (shape, scale, offset, wide) in recipe["weights"].items():
        seed = zlib.crc32(f"{recipe['prefix']}{name}".encode())
        normal = np.random.RandomState(seed).standard_normal(shape).astype(np.float32)
        number = np.float64 if wide else np.float32
        arrays[f"w/{name}"] = (number(offset) + normal * number(scale)).astype(np.float32)
        total += float(arrays[f"w/{name}"].astype(np.float64).sum())
    assert total == pytest.approx(float(arrays.pop("w_sum")), abs=1e-3), "these are not the reference run's weights"
    return arrays


def _from_twins(arrays: dict) -> dict:
    """Arrays that were equal are stored once."""
    twins = json.loads(str(arrays.pop("same_as"))) if "same_as" in arrays else {}
    return arrays | {name: arrays[twin] for name, twin in twins.items()}


@pytest.fixture(scope="session")
def golden():
    """golden("dgcf/gen_cnn.npz") -> `Golden`."""
    return read_golden


@pytest.fixture(scope="session")
def nnunet(golden_data):
    """The folder of what nnU-Net itself wrote: results folders, and images with their logits and labels."""
    return golden_data / "mr-dinov3"


@pytest.fixture(params=[False, True], ids=["inference", "training"])
def both_paths(request):
    """Inference runs on folded and packed weights, training on the layers as they are: both must agree."""
    with torch.set_grad_enabled(request.param):
        yield
