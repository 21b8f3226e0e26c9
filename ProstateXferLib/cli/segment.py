# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer segment`: an MR goes in; a `.seg.nrrd`, its measurements and a record of the run come out."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from ProstateXferLib.cli.exit_codes import ExitCode
from ProstateXferLib.cli.pipeline_options import add_pipeline_arguments, set_threads
from ProstateXferLib.cli.progress import make_progress

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
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the measurements as CSV")
    parser.add_argument("--probabilities", type=Path, metavar="FOLDER", help="write a probability map per structure")
    add_pipeline_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Segment, write, measure, print the table."""
    set_threads(args)
    from ProstateXferLib.files import make_folder, require_folder_of, write_text
    from ProstateXferLib.images.io import read_image, writable_suffix, write_image
    from ProstateXferLib.images.segmentation_file import SEGMENTATION_SUFFIX
    from ProstateXferLib.metrics.measure import measure
    from ProstateXferLib.pipelines.segmenter import Segmenter
    from ProstateXferLib.reports.table import measurements_text, write_measurements_csv

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
    )
    others = dict(args.also)
    study = {segmenter.sequences[0]: args.image, **others}
    segmentation = segmenter.predict({sequence: read_image(path) for sequence, path in study.items()}, progress)
    measurements = measure(segmentation)
    if args.output.name.lower().endswith(SEGMENTATION_SUFFIX):
        segmentation.write(args.output)
    else:
        write_image(segmentation.labels, args.output)
    record = args.output.with_name(f"{args.output.name}.json")
    provenance = {"image": str(args.image), **segmentation.provenance.to_dict()}
    if others:
        provenance["also"] = {sequence: str(path) for sequence, path in others.items()}
    write_text(record, json.dumps(provenance, indent=2, ensure_ascii=False) + "\n")
    if args.csv is not None:
        write_measurements_csv(measurements, args.csv)
    if args.probabilities is not None:
        make_folder(args.probabilities)
        for name, volume in segmentation.probabilities.items():
            write_image(volume, args.probabilities / f"{name.lower().replace(' ', '-')}.nii.gz")
    progress.result(
        {"segmentation": args.output, "record": record, "measurements": [asdict(row) for row in measurements]},
        text=f"{measurements_text(measurements)}\n\nResearch use only. Written: {args.output}",
    )
    return ExitCode.DONE


def _sequence_and_path(text: str) -> tuple[str, Path]:
    sequence, sign, path = text.partition("=")
    if not (sequence and sign and path):
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form SEQUENCE=IMAGE, e.g. ADC=adc.nii.gz")
    return sequence, Path(path)
