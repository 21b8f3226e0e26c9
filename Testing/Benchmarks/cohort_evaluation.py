# SPDX-License-Identifier: Apache-2.0
"""A cohort of gland pairs through `run_evaluation` on two cores: seconds, peak memory, and against a plain loop.

Run alone with `python Testing/Benchmarks/cohort_evaluation.py --cases 1000`; `make bench` may take fewer.
"""

import argparse
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.evaluation.case_files import CaseFiles, match_cases
from ProstateXferLib.evaluation.options import EvaluationOptions
from ProstateXferLib.evaluation.run import run_evaluation
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import read_image

CASES, JOBS, LIMIT_SECONDS = 1000, 2, 90.0
GRID = Grid((320, 320, 24), (0.5, 0.5, 3.0))
PLAIN_CASES = 12


def main(rounds: int = 1, cases: int = CASES) -> None:
    """Write the cohort, evaluate it, and time the plain loop on a few of its cases."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder, cases)
        sources = {"prediction": folder / "prediction", "reference": folder / "reference"}
        matched = match_cases(sources).cases
        run_evaluation(matched[:2], EvaluationOptions(), jobs=1)  # imports and file cache
        memory = _MemoryAtThirds(len(matched))
        start, processor = time.perf_counter(), _processor_seconds()
        evaluation = run_evaluation(matched, EvaluationOptions(), jobs=JOBS, on_case=memory.tell)
        seconds, processor = time.perf_counter() - start, _processor_seconds() - processor
        peaks = _peak_mb(resource.RUSAGE_SELF), _peak_mb(resource.RUSAGE_CHILDREN)
        plain = min(_plain_seconds(matched[:PLAIN_CASES]) for _ in range(rounds)) / min(PLAIN_CASES, cases) * cases
    limit = LIMIT_SECONDS * cases / CASES
    verdict = "ok" if seconds <= limit else "MISSED"
    print(f"\n{evaluation.n_cases} gland pairs, 320x320x24, all metrics, {JOBS} processes")
    print(f"  {seconds:6.1f} s  asked <= {limit:.0f} s  {verdict}   ({processor:.1f} s of processor time)")
    print(f"  {plain:6.1f} s  plain loop with MONAI, one process (from {PLAIN_CASES} cases), x{plain / seconds:.1f}")
    print(f"  peak memory {peaks[0]:.0f} MB here (after thirds of the cases:{memory.told}), {peaks[1]:.0f} MB a worker")


class _MemoryAtThirds:
    """Peak memory of this process after each third of the cases: flat if they are alike."""

    def __init__(self, cases: int) -> None:
        self._marks = {max(1, round(cases * k / 3)) for k in (1, 2, 3)}
        self._done, self.told = 0, ""

    def tell(self, _: object) -> None:
        """Count a case."""
        self._done += 1
        if self._done in self._marks:
            self.told += f" {_peak_mb(resource.RUSAGE_SELF):.0f} MB"


def _write(folder: Path, cases: int) -> None:
    """Glands of 20 to 90 cm³, and predictions that are a little off; labels as they come from any tool, compressed."""
    random = np.random.default_rng(0)
    z, y, x = (np.arange(n, dtype=np.float32) for n in GRID.shape_zyx)
    for role in ("prediction", "reference"):
        (folder / role).mkdir()
    for number in range(cases):
        half_mm = random.uniform((17, 15, 20), (24, 24, 30))
        centre = np.array([18.0, 80.0, 80.0]) * 2 / np.array([1, 1, 1]) + random.uniform(-6, 6, 3)
        for role in ("reference", "prediction"):
            off = random.normal(0, 1.0, 3) if role == "prediction" else np.zeros(3)
            middle_mm, radii = centre + off, half_mm * (1 + 0.03 * off)
            bumps = 1 + 0.05 * np.sin(y[None, :, None] / 9 + number) * np.cos(x[None, None, :] / 7)
            inside = (
                ((z[:, None, None] * 3 - middle_mm[0]) / radii[0]) ** 2
                + ((y[None, :, None] / 2 - middle_mm[1] / 2) / radii[1]) ** 2
                + ((x[None, None, :] / 2 - middle_mm[2] / 2) / radii[2]) ** 2
            ) < bumps
            path = folder / role / f"case{number:04d}.nii.gz"
            sitk.WriteImage(GRID.image(inside.astype(np.uint8)), str(path), useCompression=True)


def _plain_seconds(cases: list[CaseFiles]) -> float:
    """What one would write in an afternoon: read both, and call a library for every metric on the whole volume."""
    import torch
    from monai import metrics

    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="monai")
    start = time.perf_counter()
    for case in cases:
        pair = [sitk.GetArrayFromImage(read_image(case.files[role])) > 0 for role in ("prediction", "reference")]
        tensors = [torch.from_numpy(mask[None, None]).float() for mask in pair]
        metrics.compute_dice(*tensors)
        metrics.compute_iou(*tensors)
        spacing = GRID.spacing_zyx
        metrics.compute_hausdorff_distance(*tensors, include_background=True, percentile=95, spacing=spacing)
        metrics.compute_hausdorff_distance(*tensors, include_background=True, spacing=spacing)
        metrics.compute_average_surface_distance(*tensors, include_background=True, symmetric=True, spacing=spacing)
        for tolerance in (1.0, 2.0):
            metrics.compute_surface_dice(*tensors, [tolerance], include_background=True, spacing=spacing)
        [np.argwhere(mask).mean(axis=0) for mask in pair]
    return time.perf_counter() - start


def _processor_seconds() -> float:
    """Of this process and its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _peak_mb(who: int) -> float:
    scale = 1e6 if sys.platform == "darwin" else 1e3  # ru_maxrss is in bytes on macOS, in kilobytes elsewhere
    return resource.getrusage(who).ru_maxrss / scale


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=CASES)
    main(cases=parser.parse_args().cases)
