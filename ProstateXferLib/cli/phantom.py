# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer phantom`: a synthetic pelvis as T2w MRI, CT and cone-beam CT, with labels and exact truth."""

import argparse
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ProstateXferLib.cli.exit_codes import ExitCode, UsageError
from ProstateXferLib.cli.progress import make_progress
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import write_text
from ProstateXferLib.progress import raise_if_cancelled

if TYPE_CHECKING:
    from ProstateXferLib.images.grid import Grid
    from ProstateXferLib.images.phantom import Phantom, PhantomStudy

TRUTH_FORMAT = "ProstateXfer phantom truth 1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which patient, on which grid, to which folder."""
    parser.add_argument("folder", type=Path, metavar="OUT_DIR", help="where the files go (made if it does not exist)")
    parser.add_argument("--seed", type=int, default=0, help="which patient (default 0); the same seed, the same voxels")
    parser.add_argument(
        "--lesions",
        type=_positive,
        nargs="*",
        default=[0.8, 2.5],
        metavar="CM3",
        help="volume of each lesion in cm3 (default 0.8 2.5; nothing for a gland without lesions)",
    )
    parser.add_argument("--grid-of", type=Path, metavar="IMAGE", help="take size, spacing and position from this image")
    parser.add_argument("--spacing", type=_positive, nargs=3, metavar=("X", "Y", "Z"), help="voxel size in mm")
    parser.add_argument("--size", type=int, nargs=3, metavar=("X", "Y", "Z"), help="number of voxels")


def run(args: argparse.Namespace) -> int:
    """Render and write: the label maps and the truth belong to the images voxel by voxel."""
    grid = _grid(args)
    from ProstateXferLib.images.phantom import make_phantom

    progress = make_progress(args.json)
    progress.update("phantom", 0.0, "rendering")
    phantom = make_phantom(seed=args.seed, lesion_volumes_cm3=tuple(args.lesions))
    study = phantom.render(grid)
    raise_if_cancelled(progress)
    progress.update("phantom", 0.7, "writing")
    files = _write(study, phantom, args)
    progress.update("phantom", 1.0)
    listing = "\n".join(f"  {path}" for path in files)
    progress.result({"folder": args.folder, "files": files}, text=f"Phantom {args.seed}, written to\n{listing}")
    return ExitCode.DONE


def _grid(args: argparse.Namespace) -> "Grid | None":
    """The grid that was asked for; None for the phantom's own T2w acquisition."""
    if (args.spacing is None) != (args.size is None):
        raise UsageError("--spacing and --size describe a grid together: give both or neither.")
    if args.grid_of is not None and args.size is not None:
        raise UsageError("--grid-of and --spacing with --size exclude each other: give one of them.")
    if args.size is not None and min(args.size) < 1:
        raise UsageError("--size needs three numbers of voxels from 1 up.")
    from ProstateXferLib.images.grid import Grid

    if args.grid_of is not None:
        from ProstateXferLib.images.io import read_image

        return Grid.of(read_image(args.grid_of))
    if args.size is None:
        return None
    # The phantom's prostate lies at the origin: the grid is centred on it.
    origin_lps = tuple(-spacing * (count - 1) / 2 for spacing, count in zip(args.spacing, args.size, strict=True))
    return Grid(tuple(args.size), tuple(args.spacing), origin_lps)


def _write(study: "PhantomStudy", phantom: "Phantom", args: argparse.Namespace) -> list[Path]:
    from ProstateXferLib.images.grid import Grid
    from ProstateXferLib.images.io import write_image
    from ProstateXferLib.images.segmentation_file import write_segmentation
    from ProstateXferLib.images.structures import DIL, PROSTATE

    folder = args.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ProstateXferError(f"Cannot make the folder '{folder}' ({error.strerror}): choose another.") from error
    truth = {
        "format": TRUTH_FORMAT,
        "seed": args.seed,
        "lesion_volumes_cm3": args.lesions,
        "structures": {name: asdict(value) for name, value in phantom.truth.items()},
        "grid": asdict(Grid.of(study.labels)),
    }
    return [
        write_image(study.t2w, folder / "t2w.nii.gz"),
        write_image(study.ct, folder / "ct.nii.gz"),
        write_image(study.cbct, folder / "cbct.nii.gz"),
        write_segmentation(study.labels, (PROSTATE, DIL), folder / "labels.seg.nrrd"),
        write_image(study.anatomy, folder / "anatomy.nii.gz"),
        write_text(folder / "truth.json", json.dumps(truth, indent=2) + "\n"),
    ]


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above zero")
    return value
