# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer demo`: the main job on a phantom study or an image of the user's own, ending in one HTML page."""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ProstateXferLib.cli.exit_codes import ExitCode
from ProstateXferLib.cli.pipeline_options import add_pipeline_arguments, set_threads
from ProstateXferLib.cli.progress import make_progress
from ProstateXferLib.cli.segment import DEFAULT_MODEL
from ProstateXferLib.cli.synthesize import DEFAULT_MODELS
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.progress import SubProgress

if TYPE_CHECKING:
    import SimpleITK as sitk

    from ProstateXferLib.images.phantom import PhantomStudy

PHANTOM_WARNING = (
    "The shipped models are small and were trained on few public cases and on phantoms; they demonstrate the software."
)
PATIENT_WARNINGS = (
    PHANTOM_WARNING,
    "The MR to CT model has seen phantoms only: the HU it makes from a patient's MR are not CT numbers.",
    "The DIL head has seen painted and phantom lesions only: what it marks in a patient is no finding.",
)
PHANTOM_FOLDER = Path("demo-output")
OWN_FOLDER = PHANTOM_FOLDER / "own-image"
"""Apart, so that a phantom's true CT and lesions never lie beside a patient's results."""
_TRUTH = "truth.seg.nrrd"


@dataclass(frozen=True)
class DemoInput:
    """What the demo works on: the T2w for segmentation, and (image, true CT) pairs for synthesis by sequence."""

    title: str
    subtitle: str
    t2w: "sitk.Image"
    reference: Any
    to_synthesize: dict[str, tuple["sitk.Image", "sitk.Image | None"]]
    warnings: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Input and output; everything has a default."""
    parser.add_argument("--image", type=Path, help="a T2w image of your own instead of the phantom")
    parser.add_argument("--seed", type=int, default=7, help="which phantom (default 7)")
    parser.add_argument("-o", "--output", type=Path, help=f"folder (default {PHANTOM_FOLDER}; {OWN_FOLDER} for yours)")
    add_pipeline_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Prepare, segment, synthesize, measure, write the page, print the table."""
    set_threads(args)
    from ProstateXferLib.files import make_folder
    from ProstateXferLib.metrics.measure import measure
    from ProstateXferLib.pipelines.segmenter import Segmenter
    from ProstateXferLib.reports.table import measurements_text

    progress = make_progress(args.json)
    progress.update("demo", 0.0, "preparing the study")
    folder = _folder(args)
    make_folder(folder)
    study = _own_image(args.image) if args.image is not None else _phantom(args.seed)
    segmenter = Segmenter(DEFAULT_MODEL, device=args.device, precision=args.precision)
    segmentation = segmenter.predict(study.t2w, SubProgress(progress, 0.1, 0.4))
    measurements = measure(segmentation, reference=study.reference)
    results, records = _synthesize(study, args, SubProgress(progress, 0.4, 0.8))
    progress.update("demo", 0.8, "writing images and figures")
    provenance = {"segmentation": segmentation.provenance.to_dict(), **records}
    page = _write(study, segmentation, measurements, results, provenance, folder)
    progress.update("demo", 1.0, "done")
    text = (
        f"{measurements_text(measurements)}\n\nResearch use only – not for clinical decisions.\nPage: {page.resolve()}"
    )
    progress.result({"page": page, "folder": folder}, text=text)
    return ExitCode.DONE


def _folder(args: argparse.Namespace) -> Path:
    """Where to write.

    Raises:
        ProstateXferError: a phantom's results lie in the folder that an image of the user's own is to go to.
    """
    if args.image is None:
        return args.output or PHANTOM_FOLDER
    folder = args.output or OWN_FOLDER
    if (folder / _TRUTH).exists():
        raise ProstateXferError(f"'{folder}' holds the results of a phantom: choose another folder for your own image.")
    return folder


def _phantom(seed: int) -> DemoInput:
    from types import SimpleNamespace

    from ProstateXferLib.images.phantom import default_ct_grid, make_phantom
    from ProstateXferLib.images.structures import DIL, PROSTATE

    phantom = make_phantom(seed)
    diagnostic = phantom.render(modalities=("t2w",))
    planning: PhantomStudy = phantom.render(default_ct_grid())
    return DemoInput(
        title="ProstateXfer demo study",
        subtitle=f"Digital phantom, seed {seed}: every volume and position in it is known exactly",
        t2w=diagnostic.t2w,
        reference=SimpleNamespace(labels=diagnostic.labels, structures=(PROSTATE, DIL)),
        to_synthesize={"T2w": (planning.t2w, planning.ct), "CBCT": (planning.cbct, planning.ct)},
        warnings=(PHANTOM_WARNING,),
    )


def _own_image(path: Path) -> DemoInput:
    from ProstateXferLib.images.io import read_image

    image = read_image(path)
    return DemoInput(
        title="ProstateXfer study",
        subtitle=path.name,
        t2w=image,
        reference=None,
        to_synthesize={"T2w": (image, None)},
        warnings=PATIENT_WARNINGS,
    )


def _synthesize(study: DemoInput, args: argparse.Namespace, progress: SubProgress) -> tuple[list, dict[str, Any]]:
    from ProstateXferLib.images.body import body_mask
    from ProstateXferLib.pipelines.synthesizer import Synthesizer
    from ProstateXferLib.reports.study_page import SyntheticResult

    results, records = [], {}
    for index, (sequence, (source, truth)) in enumerate(study.to_synthesize.items()):
        synthesizer = Synthesizer(DEFAULT_MODELS[sequence], device=args.device, precision=args.precision)
        count = len(study.to_synthesize)
        part = SubProgress(progress, index / count, (index + 1) / count)
        synthetic, provenance = synthesizer.predict_with_provenance(source, part)
        body = None if truth is None else body_mask(truth)
        results.append(SyntheticResult(f"CT from {sequence}", source, synthetic, truth, body))
        records[f"CT from {sequence}"] = provenance.to_dict()
    return results, records


def _write(study: DemoInput, segmentation, measurements, results, provenance: dict[str, Any], folder: Path) -> Path:
    """Images, segmentation, tables, record and page; returns the page's path."""
    from ProstateXferLib.files import write_text
    from ProstateXferLib.images.io import write_image
    from ProstateXferLib.images.segmentation_file import write_segmentation
    from ProstateXferLib.reports.html import write_page
    from ProstateXferLib.reports.study_page import Study, study_page
    from ProstateXferLib.reports.table import write_measurements_csv, write_measurements_json

    write_image(study.t2w, folder / "t2w.nii.gz")
    segmentation.write(folder / "prostate-dil.seg.nrrd")
    if study.reference is not None:
        write_segmentation(study.reference.labels, study.reference.structures, folder / _TRUTH)
    for result, sequence in zip(results, study.to_synthesize, strict=True):
        name = sequence.lower()
        write_image(result.synthetic, folder / f"synthetic-ct-from-{name}.nii.gz")
        if result.truth is not None:
            write_image(result.source, folder / f"synthesis-input-{name}.nii.gz")
            write_image(result.truth, folder / "ct.nii.gz")
    write_measurements_csv(measurements, folder / "measurements.csv")
    write_measurements_json(measurements, folder / "measurements.json", provenance=provenance)
    write_text(folder / "provenance.json", json.dumps(provenance, indent=2, ensure_ascii=False) + "\n")
    warnings = [*study.warnings, *(text for record in provenance.values() for text in record["warnings"])]
    page = study_page(
        Study(
            title=study.title,
            subtitle=study.subtitle,
            image=study.t2w,
            segmentation=segmentation,
            measurements=measurements,
            reference=study.reference,
            synthetic=results,
            warnings=warnings,
            provenance=provenance,
        )
    )
    return write_page(page, folder / "report.html")
