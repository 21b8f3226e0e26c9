# SPDX-License-Identifier: Apache-2.0
"""Peak memory of a whole prediction, image in, probabilities and labels out: ours and nnU-Net's, a process each.

Counted from when the network is loaded: what the imports take is told beside it. Linux alone keeps such a count.
"""

import ctypes
import gc
import multiprocessing
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from nnunet_folders import PLAN_2D, PLAN_3D, results_folder
from nnunet_predictor import INSTALL, has_nnunet

SHAPES_ZYX = {PLAN_2D: (24, 320, 320), PLAN_3D: (24, 192, 192)}
SPACING_MM = (3.0, 0.55, 0.55)
"""Of the image, other than the plan's, so that images and logits are resampled."""
_SMALL = (2, 40, 40)
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def main(rounds: int) -> None:
    """Print the peaks; one run each, because they are long and repeat themselves to a few MB."""
    if not _RESET.exists():
        print("\nPeak memory of an nnU-Net is measured on Linux alone.")
        return
    if not has_nnunet():
        print(f"\n{INSTALL}")
    contenders = {"ours": _ours} | ({"nnU-Net's predictor": _nnunet} if has_nnunet() else {})
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as temporary:
        for plan, shape in SHAPES_ZYX.items():
            folder = results_folder(Path(temporary) / plan.name, plan)
            print(f"\nPeak memory, {plan.name}, windows of {plan.patch}, image of {shape}, CPU, fp32")
            peaks = {}
            for name, run in contenders.items():
                with context.Pool(1) as pool:
                    before, peaks[name] = pool.apply(run, (folder, shape))
                print(f"  {name:<24} {peaks[name]:6.0f} MB on top of {before:.0f} MB")
            if has_nnunet():
                ratio = peaks["ours"] / peaks["nnU-Net's predictor"]
                print(f"  ours / nnU-Net's: x{ratio:.2f}  asked <= 1.00  {'ok' if ratio <= 1 else 'MISSED'}")


def _ours(folder: Path, shape: tuple[int, int, int]) -> tuple[float, float]:
    from ProstateXferLib.pipelines.segmenter import Segmenter

    segmenter = Segmenter(folder, device="cpu")

    def run(array: np.ndarray) -> object:
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(SPACING_MM[::-1])
        return segmenter.predict(image)

    return _peak_mb(run, shape)


def _nnunet(folder: Path, shape: tuple[int, int, int]) -> tuple[float, float]:
    import torch
    from nnunet_predictor import nnunet_predictor

    torch.set_num_threads(1)
    predictor = nnunet_predictor(folder, mirror=False)

    def run(array: np.ndarray) -> object:
        properties = {"spacing": SPACING_MM}
        return predictor.predict_single_npy_array(array[None], properties, save_or_return_probabilities=True)

    return _peak_mb(run, shape)


def _noise(shape: tuple[int, int, int]) -> np.ndarray:
    return np.random.default_rng(0).normal(100, 20, shape).astype(np.float32)


def _peak_mb(run: Callable[[np.ndarray], object], shape: tuple[int, int, int]) -> tuple[float, float]:
    """MB that the process held before, and by how much more at most while it ran."""
    import torch

    torch.set_num_threads(1)
    run(_noise(_SMALL))  # what is imported late is no part of a prediction
    array = _noise(shape)
    # Loading a network holds it twice for a moment: what was freed goes back, and the peak starts anew.
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    _RESET.write_text("5", encoding="ascii")
    before = _status_mb("VmRSS")
    run(array)
    return before, _status_mb("VmHWM") - before


def _status_mb(key: str) -> float:
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{key}:"))) / 1024
