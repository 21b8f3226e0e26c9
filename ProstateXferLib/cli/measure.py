# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer measure`: volume, position and size of every structure and lesion of a segmentation."""

import argparse
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ProstateXferLib.cli.exit_codes import ExitCode, UsageError
from ProstateXferLib.cli.progress import make_progress
from ProstateXferLib.errors import ProstateXferError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to measure and where to put the numbers."""
    parser.add_argument("labels", type=Path, help="a label map (.nii.gz, .nrrd, .mha) or a segmentation (.seg.nrrd)")
    parser.add_argument(
        "--names",
        nargs="+",
        type=_name,
        metavar="VALUE=NAME",
        help="what the label values mean, e.g. 1=Prostate 2=DIL (a .seg.nrrd knows its own)",
    )
    parser.add_argument("--reference", type=Path, help="a segmentation on the same grid to compare with")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the table as CSV")
    parser.add_argument("--json-out", type=Path, metavar="FILE", help="write the measurements as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the table and write what was asked for."""
    from ProstateXferLib.metrics.measure import measure
    from ProstateXferLib.reports.table import measurements_text, write_measurements_csv, write_measurements_json

    progress = make_progress(args.json)
    names = _names(args.names)
    reference = None if args.reference is None else _read_labels(args.reference)
    measurements = measure(_read_labels(args.labels), names, reference)
    if args.csv is not None:
        write_measurements_csv(measurements, args.csv)
    if args.json_out is not None:
        origin = {"labels": args.labels, "reference": args.reference}
        write_measurements_json(measurements, args.json_out, provenance=origin)
    progress.result(
        {"measurements": [asdict(row) for row in measurements], "csv": args.csv, "json": args.json_out},
        text=measurements_text(measurements) if measurements else f"{args.labels} has no labelled voxel.",
    )
    return ExitCode.DONE


def _name(text: str) -> tuple[int, str]:
    value, _, name = text.partition("=")
    if not value.strip().isdigit() or int(value) < 1 or not name.strip():
        raise argparse.ArgumentTypeError(f"'{text}' is not VALUE=NAME with a whole number from 1, as 1=Prostate")
    return int(value), name.strip()


def _names(pairs: list[tuple[int, str]] | None) -> dict[int, str] | None:
    if pairs is None:
        return None
    names = dict(pairs)
    if len(names) < len(pairs):
        raise UsageError("--names gives one label value two names; name each value once.")
    return names


def _read_labels(path: Path) -> Any:
    """What `measure` takes: the label map, with its structures where the file describes them."""
    from ProstateXferLib.images.io import read_image
    from ProstateXferLib.images.segmentation_file import SEGMENTATION_SUFFIX, read_segmentation

    if path.name.lower().endswith(SEGMENTATION_SUFFIX):
        labels, structures = read_segmentation(path)
        return SimpleNamespace(labels=labels, structures=structures)
    return _whole_numbers(read_image(path), path)


def _whole_numbers(image: Any, path: Path) -> Any:
    """The image, cast to integers where a tool has written its labels as floating point."""
    import numpy as np
    import SimpleITK as sitk

    if image.GetNumberOfComponentsPerPixel() > 1 or image.GetPixelID() not in (sitk.sitkFloat32, sitk.sitkFloat64):
        return image
    values = sitk.GetArrayViewFromImage(image)
    if not np.isfinite(values).all() or (values != np.rint(values)).any():
        raise ProstateXferError(f"{path} holds fractions, not labels: give a label map, or threshold it first.")
    return sitk.Cast(image, sitk.sitkInt32)
