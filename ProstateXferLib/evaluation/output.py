# SPDX-License-Identifier: Apache-2.0
"""The folder of an evaluation: all of its files, or none."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.evaluation.agreement import volume_agreements
from ProstateXferLib.evaluation.detection import detections
from ProstateXferLib.evaluation.evaluation import Evaluation
from ProstateXferLib.evaluation.method_comparison import compare_methods
from ProstateXferLib.evaluation.picai_figures import picai_of
from ProstateXferLib.evaluation.report import Findings, evaluation_page
from ProstateXferLib.evaluation.summaries import Summaries
from ProstateXferLib.evaluation.tables import (
    JSON_FILE,
    METRICS_FILE,
    SUMMARY_FILE,
    write_evaluation_json,
    write_metrics_csv,
    write_summary_csv,
)
from ProstateXferLib.files import make_folder
from ProstateXferLib.progress import Progress, raise_if_cancelled
from ProstateXferLib.reports.evaluation_pdf import NO_BROWSER, find_browser, print_page
from ProstateXferLib.reports.html import write_page

REPORT_FILE, PDF_FILE = "report.html", "report.pdf"
FILES = (METRICS_FILE, SUMMARY_FILE, JSON_FILE, REPORT_FILE, PDF_FILE)


@dataclass(frozen=True)
class Written:
    """The files that were written, by name, and what was computed for them."""

    files: dict[str, Path]
    findings: Findings


def check_output(folder: Path) -> None:
    """Refuse before long work a folder that cannot be one, or that holds something else of that name."""
    if folder.exists() and not folder.is_dir():
        raise ProstateXferError(f"'{folder}' is a file, and a folder is needed: choose another name.")
    if not folder.parent.is_dir():
        raise ProstateXferError(f"The folder '{folder.parent}' does not exist: create it or choose another.")


def write_evaluation(
    evaluation: Evaluation,
    folder: Path,
    *,
    sources: dict[str, Path],
    report: bool = True,
    pdf: bool = False,
    progress: Progress,
) -> Written:
    """Write the files beside their folder first and move them in when all are there; an earlier evaluation goes.

    Raises:
        ProstateXferError: matplotlib is missing for the report, or the disk is full.
        CancelledError: the user stopped; the folder is as it was.
    """
    check_output(folder)
    problem, score = "", None
    if any("confidence" in case.files for case in evaluation.files):
        score, problem = picai_of(evaluation, progress)
    findings = Findings(
        Summaries(evaluation),
        volume_agreements(evaluation),
        detections(evaluation),
        compare_methods(evaluation),
        score,
        problem,
    )
    with tempfile.TemporaryDirectory(prefix=".prostatexfer-", dir=folder.parent) as name:
        beside = Path(name)
        write_metrics_csv(evaluation, beside / METRICS_FILE)
        write_summary_csv(findings.summaries, beside / SUMMARY_FILE)
        write_evaluation_json(
            evaluation,
            findings.summaries,
            agreements=findings.agreements,
            found=findings.detections,
            tests=findings.tests,
            picai=findings.picai,
            path=beside / JSON_FILE,
        )
        if report:
            page = write_page(evaluation_page(evaluation, findings, sources, progress), beside / REPORT_FILE)
            _print(page, beside / PDF_FILE, wanted=pdf, progress=progress)
        raise_if_cancelled(progress)
        return Written(_moved(beside, folder), findings)


def _print(page: Path, path: Path, *, wanted: bool, progress: Progress) -> None:
    """The PDF where it is wanted and can be had; without a browser the page itself is still there."""
    if not wanted:
        return
    browser = find_browser()
    if browser is None:
        progress.warn(NO_BROWSER)
        return
    try:
        print_page(page, path, browser)
    except ProstateXferError as error:
        progress.warn(str(error))


def _moved(beside: Path, folder: Path) -> dict[str, Path]:
    """The files in their folder, whose earlier ones are gone."""
    make_folder(folder)
    try:
        for name in FILES:
            if (beside / name).is_file():
                shutil.move(beside / name, folder / name)
            else:
                (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise ProstateXferError(f"'{folder}' could not be written ({error.strerror}): check its rights.") from error
    return {name: folder / name for name in FILES if (folder / name).is_file()}
