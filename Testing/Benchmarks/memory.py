# SPDX-License-Identifier: Apache-2.0
"""Peak memory of segmenting 512 x 512 x 60 with ViT-B on the CPU, in a process of its own."""

import multiprocessing
import resource
import sys
import tempfile
from pathlib import Path

LIMIT_GB = 3.0


def main(rounds: int) -> None:
    """Print the peak; one run, because it is long."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, context.Pool(1) as pool:
        peak_gb, seconds = pool.apply(_segment, (folder,))
    print("\nPeak memory, 512 x 512 x 60, ViT-B/16, CPU, gland + DIL heads, bf16 where the CPU has it")
    print(f"  {peak_gb:.2f} GB  asked <= {LIMIT_GB} GB  {'ok' if peak_gb <= LIMIT_GB else 'MISSED'}  ({seconds:.0f} s)")


def _segment(folder: str) -> tuple[float, float]:
    from mr_dinov3 import full_size

    from ProstateXferLib.checkpoints.card import Head, ModelCard, Preprocessing
    from ProstateXferLib.checkpoints.file_format import write_checkpoint
    from ProstateXferLib.images.grid import Grid
    from ProstateXferLib.images.intensity import IntensityRule
    from ProstateXferLib.images.phantom import make_phantom
    from ProstateXferLib.images.structures import DIL, PROSTATE
    from ProstateXferLib.pipelines.segmenter import Segmenter

    path = Path(folder) / "full.safetensors"
    card = ModelCard(
        name="full-size",
        task="segmentation",
        architecture="mr_dinov3",
        preprocessing=Preprocessing(IntensityRule("zscore"), tile_yx=(320, 320)),
        structures=(PROSTATE, DIL),
        heads=(Head("gland", (1,), largest_only=True), Head("dil", (2,), within="Prostate", margin_mm=5.0)),
    )
    write_checkpoint(path, card, full_size({"gland": 2, "dil": 2}).state_dict())
    grid = Grid((512, 512, 60), (0.4, 0.4, 1.5), (-102.4, -102.4, -45.0))
    image = make_phantom(7).render(grid, modalities=("t2w",)).t2w
    segmentation = Segmenter(path, device="cpu", precision="bf16").predict(image)
    scale = 1e9 if sys.platform == "darwin" else 1e6  # ru_maxrss is in bytes on macOS, in kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale, segmentation.provenance.seconds
