# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer segment`: an MR goes in; a `.seg.nrrd`, its measurements and a record of the run come out."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ProstateXferLib.cli.exit_codes import ExitCode
from ProstateXferLib.cli.pipeline_options import add_pipeline_arguments, set_threads
from ProstateXferLib.cli.progress import make_progress

if TYPE_CHECKING:
    from ProstateXferLib.metrics.measurement import Measurement
    from ProstateXferLib.pipelines.segmentation import Segmentation
    from ProstateXferLib.progress import Progress

DEFAULT_MODEL = "prostate-dil-small"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Image, model, outputs."""
    parser.add_argument("image", type=Path, help="T2w image: NIfTI, NRRD, MetaImage or a DICOM folder")
    parser.add_argument(
        "--also",
        nargs="+",
        default=[],
        type=_sequence_and_path,
        metavar="SEQUENCE=IMAGE",
        help="the other sequences of a model of several (IMAGE is then its first), e.g. ADC=adc.nii.gz",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="segmentation to write (.seg.nrrd, or a label map)"
    )
    parser.add_argument(
        "-m",
        "--model",
        nargs="+",
        default=[DEFAULT_MODEL],
        help=f"checkpoint file(s) or name(s); several are averaged (default {DEFAULT_MODEL})",
    )
    parser.add_argument("--tta", action="store_true", help="average over four mirrorings (four times the work)")
    parser.add_argument("--decode-everything", action="store_true", help="also decode outside the body and the gland")
    parser.add_argument(
        "--accumulate",
        choices=("fp32", "fp16"),
        default="fp32",
        help="how an nnU-Net's windows are added up: fp16 as nnU-Net does, to the bit; fp32 without its rounding",
    )
    parser.add_argument(
        "--window-step",
        type=float,
        metavar="SHARE",
        help="share of its side that a window advances at most (default: as the model says; 0.75 is faster)",
    )
    parser.add_argument(
        "--skip-windows", action="store_true", help="leave out an nnU-Net's or U-Net's windows that hold no tissue"
    )
    parser.add_argument(
        "--samples",
        action="store_true",
        help="also tell how far the members of an ensemble, else folds, else the mirrorings of --tta agree: range of "
        "volumes, and how many see a lesion",
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the measurements as CSV")
    parser.add_argument("--probabilities", type=Path, metavar="FOLDER", help="write a probability map per structure")
    add_pipeline_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Segment, write, measure, print the table."""
    set_threads(args)
    from ProstateXferLib.files import require_folder_of
    from ProstateXferLib.images.io import read_image, writable_suffix
    from ProstateXferLib.metrics.measure import measure
    from ProstateXferLib.pipelines.segmenter import Segmenter
    from ProstateXferLib.reports.table import measurements_text

    # What can be refused at once is not refused after minutes of work.
    writable_suffix(args.output)
    for path in (args.output, args.csv):
        if path is not None:
            require_folder_of(path)
    progress = make_progress(args.json)
    segmenter = Segmenter(
        args.model,
        device=args.device,
        tta=args.tta,
        precision=args.precision,
        skip_outside=not args.decode_everything,
        accumulate=args.accumulate,
        samples=args.samples,
        window_step=args.window_step,
        skip_windows=args.skip_windows,
    )
    study = {segmenter.sequences[0]: args.image, **dict(args.also)}
    segmentation = segmenter.predict({sequence: read_image(path) for sequence, path in study.items()}, progress)
    measurements = measure(segmentation)
    if args.samples:
        _tell_of_samples(segmentation, measurements, progress)
    record = _write(args, segmentation, measurements)
    table = measurements_text(measurements, sampled_by=segmentation.sampled_by)
    progress.result(
        {"segmentation": args.output, "record": record, "measurements": [asdict(row) for row in measurements]},
        text=f"{table}\n\nResearch use only. Written: {args.output}",
    )
    return ExitCode.DONE


def _write(args: argparse.Namespace, segmentation: "Segmentation", measurements: Sequence["Measurement"]) -> Path:
    """The segmentation, its record, and what was asked for; returns the path of the record."""
    from ProstateXferLib.files import make_folder, write_text
    from ProstateXferLib.images.io import write_image
    from ProstateXferLib.images.segmentation_file import SEGMENTATION_SUFFIX
    from ProstateXferLib.reports.table import write_measurements_csv

    if args.output.name.lower().endswith(SEGMENTATION_SUFFIX):
        segmentation.write(args.output)
    else:
        write_image(segmentation.labels, args.output)
    record = args.output.with_name(f"{args.output.name}.json")
    provenance = {"image": str(args.image), **segmentation.provenance.to_dict()}
    if args.also:
        provenance["also"] = {sequence: str(path) for sequence, path in dict(args.also).items()}
    if args.samples:
        provenance["samples"] = _record_of_samples(segmentation, measurements)
    write_text(record, json.dumps(provenance, indent=2, ensure_ascii=False) + "\n")
    if args.csv is not None:
        write_measurements_csv(measurements, args.csv)
    if args.probabilities is not None:
        make_folder(args.probabilities)
        for name, volume in segmentation.probabilities.items():
            write_image(volume, args.probabilities / f"{name.lower().replace(' ', '-')}.nii.gz")
    return record


def _tell_of_samples(segmentation: "Segmentation", measurements: Sequence["Measurement"], progress: "Progress") -> None:
    """Warn of lesions that the result lacks, and where there is nobody to agree."""
    from ProstateXferLib.metrics.missed_lesions import missed_lesions
    from ProstateXferLib.reports.missed_lesion_text import missed_lesion_warnings

    if not any(row.samples for row in measurements):
        progress.warn(
            "There are no samples: one network gives one answer to each structure. Use an ensemble, a model of several "
            "folds, or --tta."
        )
    for warning in missed_lesion_warnings(missed_lesions(segmentation), segmentation.sampled_by):
        progress.warn(warning)


def _record_of_samples(segmentation: "Segmentation", measurements: Sequence["Measurement"]) -> dict[str, Any]:
    """What the record says of the samples: who they are, and how far they agree on each structure and lesion."""
    fields = ("id", "volume_cm3", "volume_low_cm3", "volume_high_cm3", "samples", "seen_by")
    return {
        "sampled_by": segmentation.sampled_by,
        "names": [sample.name for sample in segmentation.samples],
        "agreement": [{name: getattr(row, name) for name in fields} for row in measurements if row.samples],
    }


def _sequence_and_path(text: str) -> tuple[str, Path]:
    sequence, sign, path = text.partition("=")
    if not (sequence and sign and path):
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form SEQUENCE=IMAGE, e.g. ADC=adc.nii.gz")
    return sequence, Path(path)
