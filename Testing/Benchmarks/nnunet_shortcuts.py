# SPDX-License-Identifier: Apache-2.0
"""What a small nnU-Net that really segments gains by bf16, a larger step and windows left out, and what that changes.

Whole predictions, image in, labels out, of PROMISE12 cases that the network has not seen; the expert's gland says
whether it segments. The second table has the same images in the middle of a field of view with as much air again.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from nnunet_training import TEST_CASES, cases, read_case, trained_folder

from ProstateXferLib.metrics.overlap import dice
from ProstateXferLib.pipelines.segmenter import Segmenter

EXACT, TOGETHER = "exact", "all three"
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    EXACT: {},
    "bf16": {"precision": "bf16"},
    "step 0.75": {"window_step": 0.75},
    "no empty windows": {"skip_windows": True},
    TOGETHER: {"precision": "bf16", "window_step": 0.75, "skip_windows": True},
}
LIMIT = 0.6
WIDER = 1.6
"""Side of the wide field of view, of the image's."""
AIR_SHARE = 0.02
"""Mean of the noise in air, of the image's 99th percentile."""


@dataclass
class Tally:
    """Of one way to run, over the cases."""

    wall: float = 0.0
    cpu: float = 0.0
    changed: int = 0
    found: int = 0
    same: list[float] = field(default_factory=list)
    expert: list[float] = field(default_factory=list)


def main(rounds: int) -> None:
    """Print times, ratios, changed voxels and Dice; every case once, the ways in turn."""
    if not cases():
        print("\nPROMISE12 is not there (PROSTATEXFER_TEST_DATA): what shortcuts change is not measured.")
        return
    segmenters = {name: Segmenter(trained_folder(), device="cpu", **options) for name, options in OPTIONS.items()}
    held_out = [read_case(path) for path in cases()[-TEST_CASES:]]
    _report(f"{len(held_out)} cases of PROMISE12", segmenters, held_out)
    wide = [tuple(_in_air(part, is_label=part is gland) for part in (image, gland)) for image, gland in held_out[:2]]
    _report(f"{len(wide)} of them, the field of view {WIDER} times as wide", segmenters, wide)


def _report(title: str, segmenters: Mapping[str, Segmenter], images: list[tuple[sitk.Image, sitk.Image]]) -> None:
    tallies = {name: Tally() for name in segmenters}
    for image, gland in images:
        expert, exact = sitk.GetArrayFromImage(gland) > 0, None
        for name, segmenter in segmenters.items():
            wall, cpu, tally = time.perf_counter(), time.process_time(), tallies[name]
            labels = sitk.GetArrayFromImage(segmenter.predict(image).labels) > 0
            tally.wall += time.perf_counter() - wall
            tally.cpu += time.process_time() - cpu
            exact = labels if exact is None else exact
            tally.changed += int((labels != exact).sum())
            tally.found += int(labels.sum())
            tally.same.append(dice(exact, labels))
            tally.expert.append(dice(expert, labels))
    print(f"\nShortcuts, small 2-D nnU-Net, {title}, {torch.get_num_threads()} threads")
    base = tallies[EXACT]
    for name, tally in tallies.items():
        ratio = tally.cpu / base.cpu
        asked = f"  asked <= {LIMIT:.2f}  {'ok' if ratio <= LIMIT else 'MISSED'}" if name == TOGETHER else ""
        print(
            f"  {name:<18} {tally.wall:7.1f} s  x{tally.wall / base.wall:5.2f}   CPU {tally.cpu:7.1f} s  x{ratio:5.2f}"
            f"   {tally.changed:>6} of {tally.found} gland voxels changed, Dice with exact >= {min(tally.same):.4f},"
            f" with the expert {np.mean(tally.expert):.3f}{asked}"
        )


def _in_air(image: sitk.Image, *, is_label: bool) -> sitk.Image:
    """The image in the middle of noisy air, or labels in the middle of 0."""
    array = sitk.GetArrayFromImage(image)
    margins = [(0, 0), *((round(n * (WIDER - 1) / 2),) * 2 for n in array.shape[1:])]
    wide = np.pad(array.astype(np.float32), margins)
    if not is_label:
        level = AIR_SHARE * float(np.percentile(array, 99))
        air = np.random.default_rng(0).rayleigh(level / np.sqrt(np.pi / 2), wide.shape)
        outside = np.pad(np.zeros(array.shape, bool), margins, constant_values=True)
        wide[outside] = air[outside]
    padded = sitk.GetImageFromArray(wide)
    padded.SetSpacing(image.GetSpacing())
    return padded
