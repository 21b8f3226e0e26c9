# SPDX-License-Identifier: Apache-2.0
"""Tokens of a frozen MR-DINOv3 encoder on disk: the encoder runs once over the data instead of once a step.

The trade: what a stored token shows is fixed, so nothing can be done to its image any more. Only augmentation that is
drawn before encoding is possible: every slice may be stored as it is, mirrored, and in k views augmented at random,
each view at the price of one more encoding and one more copy on disk. A training sample then is one of them. With many
epochs and few views the head sees fewer variants than with augmentation on the fly, where each draw is new.
"""

import dataclasses
import math
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
from ProstateXferLib.networks.mr_dinov3 import MRDINOv3
from ProstateXferLib.progress import Progress, raise_if_cancelled
from ProstateXferLib.training.augmentation.presets import preset
from ProstateXferLib.training.augmentation.slice_crops import CropOptions
from ProstateXferLib.training.cache.entries import entry_key, open_array, read_entry, write_entry
from ProstateXferLib.training.cache.prepared import PreparedCase
from ProstateXferLib.training.cache.room import require_room
from ProstateXferLib.training.sampling.draws import draw_seed
from ProstateXferLib.training.sampling.slices import slice_centre, warped_slice
from ProstateXferLib.training.sampling.tensors import cut_box

DTYPES = {"fp32": np.float32, "fp16": np.float16}
_TOGETHER = 4
"""Slices encoded at once: some 100 MB of activations for a ViT-B at 320 x 320."""


@dataclass(frozen=True)
class FeatureOptions:
    """What is stored of every slice.

    Attributes:
        dtype: "fp16" or "fp32"; normed tokens lie within some tens, fp16 rounds them by 5e-4 of their value.
        size_yx: rows and columns, multiples of 16, that slices are cut or padded to about their middle; None pads to
            the largest slice of all cases.
        mirrored: also the slice mirrored left to right.
        views: number of augmented views besides.
        augmentation: preset (augmentation/presets) of the views.
        warp: the views are crops of augmentation/slice_crops instead, and everything has their size.
        anywhere: with a warp: share of the views centred anywhere, see `sampling.slices.SliceOptions`.
        seed: of the views.
    """

    dtype: str = "fp16"
    size_yx: tuple[int, int] | None = None
    mirrored: bool = False
    views: int = 0
    augmentation: str = "nnunet"
    warp: CropOptions | None = None
    anywhere: float = 0.12
    seed: int = 0

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ProstateXferError(f"Tokens are stored as {' or '.join(DTYPES)}, not '{self.dtype}'.")
        if self.size_yx is not None and any(side < PATCH or side % PATCH for side in self.size_yx):
            raise ProstateXferError(f"The features' size_yx is {self.size_yx}: give multiples of {PATCH} pixels.")
        if self.views < 0:
            raise ProstateXferError(f"The number of views is {self.views}: give 0 or more.")

    @property
    def variants(self) -> tuple[str, ...]:
        """What is stored of every slice: "plain", perhaps "mirrored", "view 0", "view 1", ..."""
        views = tuple(f"view {number}" for number in range(self.views))
        return ("plain", *(("mirrored",) if self.mirrored else ()), *views)


@dataclass(frozen=True)
class FeatureStore:
    """Where the tokens of each case and variant lie; opened by path at every use, so that it pickles small.

    Attributes:
        cases: the prepared cases.
        folders: entries, one a case and variant.
        size_yx: rows and columns of the encoded slices; N = rows / 16 * columns / 16 tokens each.
        width: E, channels of a token.
        stored_bytes: of all tokens and labels together.
    """

    cases: tuple[PreparedCase, ...]
    folders: tuple[tuple[Path, ...], ...]
    size_yx: tuple[int, int]
    width: int
    stored_bytes: int

    def tokens(self, case: int, z: int, variant: int = 0) -> Tensor:
        """(N, E) float32 tokens of one slice, row-major."""
        return torch.from_numpy(np.array(open_array(self.folders[case][variant] / "tokens.npy")[z], dtype=np.float32))

    def labels(self, case: int, z: int, variant: int = 0) -> Tensor:
        """(H, W) int64 label values of one slice, changed as its image was."""
        return torch.from_numpy(np.array(open_array(self.folders[case][variant] / "labels.npy")[z], dtype=np.int64))


def cached_features(
    network: MRDINOv3,
    prepared: Sequence[PreparedCase],
    *,
    folder: Path,
    device: torch.device,
    options: FeatureOptions,
    progress: Progress,
) -> FeatureStore:
    """Encode every slice of every case once, in fp32, or find it encoded; the network is left on `device`.

    Entries are keyed by the encoder's sha256 and taps, the prepared case, the size and the variant.

    Raises:
        ProstateXferError: the disk has not enough room (asked first); tokens that fp16 cannot hold.
        CancelledError: the user stopped; what is encoded stays.
    """
    folder = make_folder(folder)
    size_yx = options.size_yx or _common_size(prepared)
    if options.warp is not None:
        size_yx = (options.warp.size,) * 2
    width = network.dino_encoder.width * len(network.blocks)
    encoder = encoder_sha256(network.dino_encoder, network.blocks)
    places = [
        tuple(_place(folder, encoder, case, size_yx, variant, options) for variant in options.variants)
        for case in prepared
    ]
    missing = {
        place: (case, variant)
        for case, row in zip(prepared, places, strict=True)
        for place, variant in zip(row, options.variants, strict=True)
        if read_entry(place) is None
    }
    needed = sum(_entry_bytes(case, size_yx, width, options.dtype) for case, _ in missing.values())
    require_room(folder, needed, what="The encoder's tokens", instead="store them as fp16 or with fewer views")
    training, network = network.training, network.to(device).eval()
    try:
        for index, (place, (case, variant)) in enumerate(missing.items()):
            raise_if_cancelled(progress)
            progress.update("encode", index / len(missing), f"case {case.case_id}, {needed / 1e9:.2f} GB in all")
            write_entry(place, _Encoding(network, case, size_yx, variant, options, device))
    finally:
        network.train(training)
    stored = len(options.variants) * sum(_entry_bytes(case, size_yx, width, options.dtype) for case in prepared)
    return FeatureStore(tuple(prepared), tuple(places), size_yx, width, stored)


@dataclass(frozen=True)
class _Encoding:
    """Fills the entry of one case and variant."""

    network: MRDINOv3
    case: PreparedCase
    size_yx: tuple[int, int]
    variant: str
    options: FeatureOptions
    device: torch.device

    def __call__(self, folder: Path) -> dict[str, Any]:
        depth, tokens = self.case.shape_zyx[0], None
        labels = np.zeros((depth, *self.size_yx), np.uint8)
        for start in range(0, depth, _TOGETHER):
            samples = [self._slice(z) for z in range(start, min(start + _TOGETHER, depth))]
            images = torch.stack([sample["image"] for sample in samples]).to(self.device)
            with torch.inference_mode():
                part = self.network.encode(images).float().cpu().numpy()
            if tokens is None:
                shape, dtype = (depth, *part.shape[1:]), DTYPES[self.options.dtype]
                tokens = np.lib.format.open_memmap(folder / "tokens.npy", mode="w+", dtype=dtype, shape=shape)
            with np.errstate(over="ignore"):  # told below
                tokens[start : start + len(part)] = part
            labels[start : start + len(part)] = torch.stack([sample["labels"] for sample in samples]).numpy()
            if not np.isfinite(tokens[start : start + len(part)]).all():
                raise ProstateXferError(
                    f"The encoder's tokens of case '{self.case.case_id}' do not fit {self.options.dtype}: store fp32."
                )
        tokens.flush()
        np.save(folder / "labels.npy", labels)
        return {"variant": self.variant}

    def _slice(self, z: int) -> dict[str, Tensor]:
        """Slice z as this variant shows it: "image" (1, H, W), "labels" (H, W)."""
        view = self.variant.startswith("view")
        seed = draw_seed(self.options.seed, z, f"{self.variant} {self.case.sha256}")
        if view and self.options.warp is not None:
            return self._warped(z, self.options.warp, seed)
        changes = preset(self.options.augmentation if view else "none", spatial_dims=2, patch_size=self.size_yx)
        size = changes.source_size
        start = [(whole - side) // 2 for whole, side in zip(self.case.shape_zyx[1:], size, strict=True)]
        cut = cut_box(self.case, (z, *start), (1, *size))
        sample = changes({"image": cut["image"][:1, 0], "labels": cut["labels"][0]}, seed)
        if self.variant == "mirrored":
            sample = {name: value.flip(-1) for name, value in sample.items()}
        return sample

    def _warped(self, z: int, warp: CropOptions, seed: int) -> dict[str, Tensor]:
        random = np.random.default_rng(seed)
        centre_yx = slice_centre(self.case, z, anywhere=self.options.anywhere, random=random)
        return warped_slice(self.case, z, warp, centre_yx=centre_yx, generator=torch.Generator().manual_seed(seed))


def _common_size(prepared: Sequence[PreparedCase]) -> tuple[int, int]:
    """Sides of the largest slice, rounded up to whole patches."""
    return tuple(math.ceil(max(case.shape_zyx[axis] for case in prepared) / PATCH) * PATCH for axis in (1, 2))


def _place(
    folder: Path, encoder: str, case: PreparedCase, size_yx: tuple[int, int], variant: str, options: FeatureOptions
) -> Path:
    contents = {
        "kind": "tokens",
        "encoder": encoder,
        "case": case.sha256,
        "size_yx": size_yx,
        "variant": variant,
        "dtype": options.dtype,
    }
    if variant.startswith("view"):
        warp = None if options.warp is None else [dataclasses.asdict(options.warp), options.anywhere]
        contents |= {"augmentation": options.augmentation, "warp": warp, "seed": options.seed}
    key = entry_key(contents)
    return folder / key[:2] / key


def _entry_bytes(case: PreparedCase, size_yx: tuple[int, int], width: int, dtype: str) -> int:
    """Bytes of the tokens and labels of one variant of one case."""
    pixels = case.shape_zyx[0] * math.prod(size_yx)
    return pixels + pixels // PATCH**2 * width * np.dtype(DTYPES[dtype]).itemsize
