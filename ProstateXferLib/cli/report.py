# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer report`: the page of a study folder, one HTML file."""

import argparse
from pathlib import Path

from ProstateXferLib.cli.exit_codes import ExitCode, UsageError
from ProstateXferLib.cli.progress import make_progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which study, and where to."""
    parser.add_argument("study", type=Path, metavar="STUDY_FOLDER", help="a folder that prostatexfer study wrote")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="page to write (default: report.html in the study folder)"
    )


def run(args: argparse.Namespace) -> int:
    """Draw and write the page."""
    from ProstateXferLib.cohort.report import study_report
    from ProstateXferLib.files import require_folder_of
    from ProstateXferLib.reports.html import write_page

    output = args.output or args.study / "report.html"
    if output.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"The report is a page: its name must end in .html, and '{output.name}' does not.")
    progress = make_progress(args.json)
    progress.update("Drawing the report", 0.0)
    page = study_report(args.study)
    require_folder_of(output)
    path = write_page(page, output)
    progress.update("Drawing the report", 1.0)
    progress.result({"page": path}, text=f"Research use only – not for clinical decisions.\nPage: {path.resolve()}")
    return ExitCode.DONE
