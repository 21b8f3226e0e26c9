# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer evaluate`: a cohort of predictions against references, into tables and one report."""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ProstateXferLib.cli.exit_codes import ExitCode, UsageError
from ProstateXferLib.cli.progress import make_progress
from ProstateXferLib.errors import ProstateXferError

if TYPE_CHECKING:
    from ProstateXferLib.evaluation.case_files import Cohort
    from ProstateXferLib.evaluation.case_result import CaseResult
    from ProstateXferLib.evaluation.evaluation import Evaluation
    from ProstateXferLib.evaluation.label_names import LabelNames
    from ProstateXferLib.evaluation.options import EvaluationOptions

_TABLE_SUFFIXES = (".csv", ".tsv", ".txt")
_FOLDERS = {"images": "image", "bodies": "body", "confidences": "confidence", "targets": "target", "compare": "other"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Cases, meaning of labels, definitions, output."""
    parser.add_argument(
        "predictions", type=Path, help="a folder with one file or subfolder a case, one file, or a CSV of all files"
    )
    parser.add_argument("references", type=Path, nargs="?", help="the same for the references (not with a CSV)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder for the results")
    parser.add_argument(
        "--kind", choices=("auto", "segmentation", "sct"), default="auto", help="label maps or synthetic CTs"
    )
    _add_files(parser)
    _add_meaning(parser)
    _add_definitions(parser)
    parser.add_argument("--jobs", type=_count, metavar="N", help="parallel processes (default: one a core)")
    parser.add_argument("--worst", type=int, default=4, metavar="N", help="worst cases drawn per structure (default 4)")
    parser.add_argument("--no-report", action="store_true", help="tables alone, without report.html")
    parser.add_argument("--pdf", action="store_true", help="also print the report to report.pdf (needs a browser)")


def run(args: argparse.Namespace) -> int:
    """Evaluate and write; exit code 3 when a case failed."""
    from ProstateXferLib.evaluation.kind import detect_kind
    from ProstateXferLib.evaluation.output import check_output, write_evaluation
    from ProstateXferLib.evaluation.run import run_evaluation
    from ProstateXferLib.progress import SubProgress

    _check_use(args)
    check_output(args.output)
    if not args.no_report:
        _check_matplotlib()
    cohort = _cohort(args)
    progress = make_progress(args.json)
    for role, names in cohort.unused.items():
        progress.warn(_unused(role, names))
    kind = detect_kind(cohort.cases) if args.kind == "auto" else args.kind
    options = _options(args, kind, two=any("other" in case.files for case in cohort.cases))
    evaluation = run_evaluation(
        cohort.cases,
        options,
        jobs=args.jobs,
        progress=SubProgress(progress, 0.0, 0.9),
        on_case=_teller(args.json),
    )
    sources = {"predictions": args.predictions, "references": args.references or args.predictions}
    written = write_evaluation(
        evaluation,
        args.output,
        sources={name: path.resolve() for name, path in sources.items()},
        report=not args.no_report,
        pdf=args.pdf,
        progress=SubProgress(progress, 0.9, 1.0),
    )
    progress.result(_values(evaluation, args.output, written.files), text=_text(evaluation, written))
    return ExitCode.SOME_CASES_FAILED if evaluation.n_failed else ExitCode.DONE


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--compare", type=Path, metavar="FOLDER", help="predictions of a second method")
    parser.add_argument("--method-names", nargs="+", metavar="NAME", help="names of the one or two methods")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="images under the outlines of the worst cases")
    parser.add_argument("--confidences", type=Path, metavar="FOLDER", help="lesion probabilities or detection maps")
    parser.add_argument("--bodies", type=Path, metavar="FOLDER", help="masks inside which CTs are compared")
    parser.add_argument("--targets", type=Path, metavar="FOLDER", help="targets for the water-equivalent depth")
    for role in ("prediction", "reference", "image", "other"):
        parser.add_argument(
            f"--{role}-file", metavar="NAME", help=f"name of the {role}'s file where a case's subfolder has several"
        )


def _add_meaning(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--names",
        nargs="+",
        default=[],
        metavar="VALUE=NAME",
        help="what label values mean on both sides, e.g. 1=Prostate 2=DIL, or any=DIL (a .seg.nrrd knows its own)",
    )
    parser.add_argument(
        "--reference-names", nargs="+", default=[], metavar="VALUE=NAME", help="the same, for references that differ"
    )
    parser.add_argument("--card", metavar="MODEL", help="take the meaning from a model's card (name or file)")
    parser.add_argument("--structures", nargs="+", default=[], metavar="NAME", help="evaluate these alone")
    parser.add_argument("--resample", action="store_true", help="bring predictions to their reference's grid")


def _add_definitions(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tolerances", nargs="+", type=float, default=[1.0, 2.0], metavar="MM", help="of the NSD")
    parser.add_argument("--surface", choices=("voxel", "surfel"), default="voxel", help="MONAI's or DeepMind's surface")
    parser.add_argument("--empty", choices=("best_worst", "nan", "penalty"), default="best_worst", help="empty masks")
    parser.add_argument("--strata", nargs="+", type=float, default=[1.0, 2.0], metavar="CM3", help="lesion volumes")
    parser.add_argument(
        "--hu-range", nargs=2, type=float, default=[-1024.0, 3000.0], metavar=("LOW", "HIGH"), help="of PSNR and SSIM"
    )


def _check_use(args: argparse.Namespace) -> None:
    table = args.predictions.suffix.lower() in _TABLE_SUFFIXES
    if table and (args.references is not None or any(getattr(args, name) for name in _FOLDERS)):
        raise UsageError("A CSV names all files itself: give it alone, with columns such as reference, image, other.")
    if not table and args.references is None:
        raise UsageError("Give two folders, predictions and references, or one CSV that names the files.")
    if args.card and args.names:
        raise UsageError("--card and --names both say what the labels mean: give one of them.")


def _check_matplotlib() -> None:
    """Before minutes of work, not after them."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise ProstateXferError(
            'The report needs matplotlib, which is not installed: run "pip install matplotlib", or give --no-report.'
        )


def _cohort(args: argparse.Namespace) -> "Cohort":
    from ProstateXferLib.evaluation.case_files import match_cases
    from ProstateXferLib.evaluation.case_table import read_case_table

    if args.references is None:
        return read_case_table(args.predictions)
    sources = {"prediction": args.predictions, "reference": args.references}
    sources |= {role: getattr(args, name) for name, role in _FOLDERS.items() if getattr(args, name) is not None}
    inner = {role: getattr(args, f"{role}_file") for role in ("prediction", "reference", "image", "other")}
    return match_cases(sources, {role: name for role, name in inner.items() if name})


def _options(args: argparse.Namespace, kind: str, *, two: bool) -> "EvaluationOptions":
    from ProstateXferLib.evaluation.label_names import canonical_name
    from ProstateXferLib.evaluation.options import EvaluationOptions

    prediction_names, reference_names = _meaning(args)
    try:
        return EvaluationOptions(
            kind=kind,
            methods=_methods(args, two=two),
            prediction_names=prediction_names,
            reference_names=reference_names,
            structures=tuple(dict.fromkeys(map(canonical_name, args.structures))),
            resample=args.resample,
            tolerances_mm=tuple(args.tolerances),
            surface=args.surface,
            empty=args.empty,
            strata_edges_cm3=tuple(args.strata),
            hu_range=tuple(args.hu_range),
            worst=max(0, args.worst),
        )
    except ProstateXferError as error:
        raise UsageError(str(error)) from error


def _meaning(args: argparse.Namespace) -> tuple["LabelNames", "LabelNames"]:
    """What label values mean in predictions and in references."""
    from ProstateXferLib.evaluation.label_names import LabelNames

    try:
        names = LabelNames.parse(args.names)
        if args.card:
            from ProstateXferLib.checkpoints.loading import load_checkpoint

            names = LabelNames.of_card(load_checkpoint(args.card).card)
        return names, LabelNames.parse(args.reference_names) if args.reference_names else names
    except ProstateXferError as error:
        raise UsageError(str(error)) from error


def _methods(args: argparse.Namespace, *, two: bool) -> tuple[str, ...]:
    count = 2 if two else 1
    if args.method_names:
        if len(args.method_names) != count:
            raise UsageError(f"--method-names has {len(args.method_names)} names for {count} methods: give {count}.")
        return tuple(args.method_names)
    if not two:
        return ("prediction",)
    names = [path.resolve().name for path in (args.predictions, args.compare or args.predictions)]
    files = [args.prediction_file, args.other_file]
    if names[0] == names[1] and all(files) and files[0] != files[1]:
        names = files
    return tuple(names) if names[0] != names[1] else ("first", "second")


def _teller(as_json: bool) -> Callable[["CaseResult"], None]:
    """Tells failures as they come; a program is told of every case."""

    def event(result: "CaseResult") -> None:
        failures = result.failures
        state = "failed" if failures else "done"
        message = " ".join(failures.values())
        print(json.dumps({"event": "case", "case": result.case, "state": state, "message": message}), flush=True)

    def line(result: "CaseResult") -> None:
        for method, why in result.failures.items():
            print(f"{result.case}: failed ({method})  {why}", flush=True)

    return event if as_json else line


def _unused(role: str, names: Sequence[str]) -> str:
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"{len(names)} {role} files have no reference and were left out: {shown}."


def _values(evaluation: "Evaluation", folder: Path, files: dict[str, Path]) -> dict[str, Any]:
    return {
        "folder": folder,
        "n_cases": evaluation.n_cases,
        "n_failed": evaluation.n_failed,
        "structures": list(evaluation.structures),
        "files": files,
    }


def _text(evaluation: "Evaluation", written: Any) -> str:
    """The main numbers on the terminal, and where the rest is."""
    key = "dice" if evaluation.options.kind == "segmentation" else "mae"
    lines = [
        f"{row.structure}, {row.method}: {row.metric.axis_label} {row.summary}"
        for row in written.findings.summaries.rows
        if row.metric.key == key
    ]
    done = evaluation.n_cases - evaluation.n_failed
    lines.append(f"{done} of {evaluation.n_cases} cases evaluated in {evaluation.seconds:.1f} s. Research use only.")
    lines.append("Written: " + ", ".join(str(path) for path in written.files.values()))
    return "\n".join(lines)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1")
    return int(text)
