# SPDX-License-Identifier: Apache-2.0
"""Peak memory of segmenting 512 x 512 x 60 with ViT-B on the CPU, in a process of its own."""

import multiprocessing
import resource
import sys
import tempfile
from pathlib import Path

LIMIT_GB = 3.0


def main(rounds: int) -> None:
    """Print the peak; one run, because it is long. The checkpoint is written by one process and used by another."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "full.safetensors"
        for work in (_write, _segment):
            with context.Pool(1) as pool:
                result = pool.apply(work, (path,))
    peak_gb, seconds = result
    print("\nPeak memory, 512 x 512 x 60, ViT-B/16, gland + DIL heads, CPU, fp32")
    print(f"  {peak_gb:.2f} GB  asked <= {LIMIT_GB} GB  {'ok' if peak_gb <= LIMIT_GB else 'MISSED'}  ({seconds:.0f} s)")


def _write(path: Path) -> None:
    from mr_dinov3 import full_size

    from ProstateXferLib.checkpoints.card import Head, ModelCard, Preprocessing
    from ProstateXferLib.checkpoints.file_format import write_checkpoint
    from ProstateXferLib.images.intensity import IntensityRule
    from ProstateXferLib.images.structures import DIL, PROSTATE

    card = ModelCard(
        name="full-size",
        task="segmentation",
        architecture="mr_dinov3",
        preprocessing=Preprocessing(IntensityRule("zscore"), tile_yx=(512, 512)),
        structures=(PROSTATE, DIL),
        heads=(Head("gland", (1,), largest_only=True), Head("dil", (2,), within="Prostate", margin_mm=5.0)),
    )
    write_checkpoint(path, card, full_size({"gland": 2, "dil": 2}).state_dict())


def _segment(path: Path) -> tuple[float, float]:
    from ProstateXferLib.images.grid import Grid
    from ProstateXferLib.images.phantom import make_phantom
    from ProstateXferLib.pipelines.segmenter import Segmenter

    grid = Grid((512, 512, 60), (0.4, 0.4, 1.5), (-102.4, -102.4, -45.0))
    image = make_phantom(7).render(grid, modalities=("t2w",)).t2w
    segmentation = Segmenter(path, device="cpu").predict(image)
    scale = 1e9 if sys.platform == "darwin" else 1e6  # ru_maxrss is in bytes on macOS, in kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale, segmentation.provenance.seconds
