# SPDX-License-Identifier: Apache-2.0
"""A small nnU-Net that really segments the gland, trained on PROMISE12 in some minutes and kept in build/."""

import os
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from nnunet_folders import Plan, results_folder
from torch import Tensor
from torch.nn import functional as F

from ProstateXferLib.checkpoints.nnunet_plan import ChannelNormalization, NnunetPlan
from ProstateXferLib.images.io import read_image
from ProstateXferLib.networks.dense import dense_network
from ProstateXferLib.pipelines.nnunet.preparation import prepare_study
from ProstateXferLib.pipelines.nnunet.resampling import resampled, separate_axis
from ProstateXferLib.progress import SilentProgress

ROOT = Path(__file__).resolve().parents[2]
PLAN = Plan("2d", (160, 160), (0.75, 0.75), base_features=16, classes=2)
"""A field of view of 192 mm is 256 pixels: nine windows a slice at nnU-Net's step, four at a step of 0.75."""
TEST_CASES = 6
_STEPS, _BATCH, _RATE = 1500, 4, 2e-3


def cases() -> list[Path]:
    """Folders of PROMISE12's labelled cases, sorted; the last `TEST_CASES` are for measuring. Empty where absent."""
    data = Path(os.environ.get("PROSTATEXFER_TEST_DATA", ROOT.parent / "shared" / "data"))
    return sorted(path for path in (data / "promise12" / "train").glob("promise12_*") if path.is_dir())


def trained_folder() -> Path:
    """The results folder; trained on first use."""
    folder = ROOT / "build" / "benchmarks" / f"nnunet-promise12-2d-{_STEPS}-steps"
    if not (folder / "fold_0" / "checkpoint_final.pth").is_file():
        started = time.perf_counter()
        weights = _trained(cases()[:-TEST_CASES])
        results_folder(folder, PLAN, weights)
        print(f"  trained a small nnU-Net in {time.perf_counter() - started:.0f} s: {folder}")
    return folder


def read_case(folder: Path) -> tuple[sitk.Image, sitk.Image]:
    """T2w and the expert's gland."""
    image, gland = (next(path for path in folder.iterdir() if word in path.name) for word in ("t2w", "gland"))
    return read_image(image), read_image(gland)


def _trained(folders: list[Path]) -> dict[str, Tensor]:
    slices = [pair for folder in folders for pair in _slices(*read_case(folder))]
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    network = dense_network("plain_conv_unet", {**PLAN.architecture(), "deep_supervision": False}).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=_STEPS)
    for _ in range(_STEPS):
        crops = [_crop(*slices[rng.integers(len(slices))], rng) for _ in range(_BATCH)]
        images, glands = (torch.from_numpy(np.stack(part)) for part in zip(*crops, strict=True))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(images[:, None])
        loss = _loss(logits.float(), glands.long())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rates.step()
    return {name: tensor.detach() for name, tensor in network.state_dict().items()}


def _slices(image: sitk.Image, gland: sitk.Image) -> list[tuple[np.ndarray, np.ndarray]]:
    """Slices as the network takes them, padded to a window, and the gland in them."""
    plan = NnunetPlan("2d", PLAN.spacing_mm, PLAN.patch, (ChannelNormalization("zscore"),))
    study = prepare_study([image], plan, SilentProgress())
    mask = sitk.GetArrayFromImage(gland)[(None, *study.crop.box)].astype(np.float32)
    axis = separate_axis(study.spacing_mm, study.target_mm)
    mask = resampled(mask, study.channels.shape[1:], order=1, axis=axis)[0] > 0.5
    margins = [(0, max(0, side - size)) for side, size in zip(PLAN.patch, mask.shape[1:], strict=True)]
    return [(np.pad(a, margins), np.pad(b, margins)) for a, b in zip(study.channels[0], mask, strict=True)]


def _crop(image: np.ndarray, gland: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = (int(rng.integers(size - side + 1)) for size, side in zip(image.shape, PLAN.patch, strict=True))
    place = (slice(rows, rows + PLAN.patch[0]), slice(columns, columns + PLAN.patch[1]))
    flip = slice(None, None, -1) if rng.random() < 0.5 else slice(None)
    scale, shift = rng.uniform(0.8, 1.25), rng.uniform(-0.3, 0.3)
    return np.ascontiguousarray(image[place][:, flip] * scale + shift, dtype=np.float32), gland[place][:, flip].copy()


def _loss(logits: Tensor, gland: Tensor) -> Tensor:
    """Cross entropy and soft Dice of the batch."""
    found, wanted = torch.softmax(logits, dim=1)[:, 1], gland.float()
    dice = (2 * (found * wanted).sum() + 1) / (found.sum() + wanted.sum() + 1)
    return F.cross_entropy(logits, gland) - dice
