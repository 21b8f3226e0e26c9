# SPDX-License-Identifier: Apache-2.0
"""Frozen-encoder tokens of paired slices on disk, as DGCF's reference precomputes them (dgcf.md, section 2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import make_folder
from ProstateXferLib.networks.dinov3 import PATCH
from ProstateXferLib.networks.encoder_key import encoder_sha256
from ProstateXferLib.networks.guided_dgcf import LEVELS, GuidedDGCF
from ProstateXferLib.progress import Progress, raise_if_cancelled
from ProstateXferLib.training.cache.entries import entry_key, open_array, read_entry, write_entry
from ProstateXferLib.training.cache.pairs import PreparedPair
from ProstateXferLib.training.cache.room import require_room

DTYPES = {"fp32": np.float32, "fp16": np.float16}
_TOGETHER = 8
"""Slices encoded at once: 100 MB of tokens and activations for a ViT-B at 256 x 256."""


@dataclass(frozen=True)
class SliceFeatures:
    """Where the tokens of each prepared pair lie."""

    folders: dict[str, Path]

    def of(self, pair: PreparedPair, z: int) -> Tensor:
        """(4, N, C) float32 tokens of one slice."""
        return torch.from_numpy(np.array(open_array(self.folders[pair.sha256] / "tokens.npy")[z], dtype=np.float32))


def slice_features(
    network: GuidedDGCF,
    pairs: Sequence[PreparedPair],
    *,
    folder: Path,
    dtype: str,
    device: torch.device,
    progress: Progress,
) -> SliceFeatures:
    """Encode every slice of every pair once, in fp32, or find it encoded.

    Args:
        network: whose encoder is frozen; keyed by its weights, taps and input range.
        pairs: prepared pairs.
        folder: the cache.
        dtype: "fp32" (3.1 MB a slice with a ViT-B at 256 x 256) or "fp16" (half of it).
        device: where to encode.
        progress: told every case; asked whether to stop.

    Raises:
        ProstateXferError: the disk has not enough room, told before anything is encoded.
    """
    folder = make_folder(folder)
    encoder = [encoder_sha256(network.dino_encoder, network.blocks), list(network.encoder_range)]
    places = {}
    for pair in pairs:
        key = entry_key({"kind": "slice features", "pair": pair.sha256, "encoder": encoder, "dtype": dtype})
        places[pair.sha256] = folder / key[:2] / key
    missing = {p.sha256: p for p in pairs if read_entry(places[p.sha256]) is None}
    needed = sum(_bytes(pair, network.dino_encoder.width, dtype) for pair in missing.values())
    require_room(folder, needed, what="The stored features", instead="choose features_dtype fp16, or store none")
    training, network = network.training, network.to(device).eval()
    for index, pair in enumerate(missing.values()):
        raise_if_cancelled(progress)
        progress.update("encode", index / len(missing), f"case {pair.case_id}")
        write_entry(places[pair.sha256], lambda new, pair=pair: _write(new, network, pair, dtype, device))
    network.train(training)
    return SliceFeatures(places)


def _write(folder: Path, network: GuidedDGCF, pair: PreparedPair, dtype: str, device: torch.device) -> dict[str, Any]:
    source = pair.source
    tokens = None
    for start in range(0, len(source), _TOGETHER):
        images = torch.from_numpy(np.array(source[start : start + _TOGETHER]))[:, None].to(device)
        with torch.inference_mode():
            part = network.features(images).float().cpu().numpy()
        if tokens is None:
            shape = (len(source), *part.shape[1:])
            tokens = np.lib.format.open_memmap(folder / "tokens.npy", mode="w+", dtype=DTYPES[dtype], shape=shape)
        tokens[start : start + len(part)] = part
    if not np.isfinite(tokens).all():
        raise ProstateXferError(
            f"The encoder's tokens of case '{pair.case_id}' do not fit {dtype}: store them as fp32."
        )
    tokens.flush()
    return {"shape": list(tokens.shape)}


def _bytes(pair: PreparedPair, width: int, dtype: str) -> int:
    z, y, x = pair.shape_zyx
    return z * (y // PATCH) * (x // PATCH) * LEVELS * width * np.dtype(DTYPES[dtype]).itemsize
