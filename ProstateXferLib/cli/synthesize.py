# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer synthesize`: an MR or CBCT goes in; a CT in HU on the same grid comes out."""

import argparse
import json
from pathlib import Path

from ProstateXferLib.cli.exit_codes import ExitCode
from ProstateXferLib.cli.pipeline_options import add_pipeline_arguments, set_threads
from ProstateXferLib.cli.progress import make_progress

DEFAULT_MODELS = {"T2w": "dgcf-mr-to-ct-small", "CBCT": "dgcf-cbct-to-ct-small"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Image, model, output."""
    parser.add_argument("image", type=Path, help="MR or CBCT: NIfTI, NRRD, MetaImage or a DICOM folder")
    parser.add_argument("-o", "--output", type=Path, required=True, help="synthetic CT to write (.nii.gz, .nrrd, .mha)")
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--from", dest="sequence", choices=sorted(DEFAULT_MODELS), help="what the image is")
    choice.add_argument("-m", "--model", help="checkpoint file or name instead of the shipped one")
    add_pipeline_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Synthesize and write, with the record of the run beside."""
    set_threads(args)
    from ProstateXferLib.files import require_folder_of, write_text
    from ProstateXferLib.images.io import read_image, writable_suffix, write_image
    from ProstateXferLib.pipelines.synthesizer import Synthesizer

    writable_suffix(args.output)  # now, not after minutes of work
    require_folder_of(args.output)
    progress = make_progress(args.json)
    model = args.model or DEFAULT_MODELS[args.sequence]
    synthesizer = Synthesizer(model, device=args.device, precision=args.precision)
    synthetic, provenance = synthesizer.predict_with_provenance(read_image(args.image), progress)
    write_image(synthetic, args.output)
    record = args.output.with_name(f"{args.output.name}.json")
    values = {"image": str(args.image), **provenance.to_dict()}
    write_text(record, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
    progress.result(
        {"synthetic_ct": args.output, "record": record},
        text=f"Synthetic CT, HU, research use only. Written: {args.output}",
    )
    return ExitCode.DONE
