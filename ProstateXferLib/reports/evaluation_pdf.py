# SPDX-License-Identifier: Apache-2.0
"""A page as PDF, printed by a browser that is installed anyway."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ProstateXferLib.errors import ProstateXferError

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge", "microsoft-edge")
_PLACES = (
    Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"),
    Path("/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge"),
    Path("C:/Program Files/Google/Chrome/Application/chrome.exe"),
    Path("C:/Program Files (x86)/Microsoft/Edge/Application/msedge.exe"),
)
_LIMIT_SECONDS = 180
# Upright paper would cut the last columns of the widest tables off, and with them how many cases a mean is of.
_PAPER = """
@media print {
  @page { size: A4 landscape; margin: 12mm; }
  .scroll { overflow: visible; }
  figure img { max-height: 158mm; }
}
"""
NO_BROWSER = (
    "No PDF was written, as there is no Chromium, Chrome or Edge to print with: install one, or open report.html in "
    "any browser and print it to a file."
)


def find_browser() -> Path | None:
    """A browser that prints without a window, None where there is none."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    return Path(found) if found else next((place for place in _PLACES if place.is_file()), None)


def print_page(page: Path, pdf: Path, browser: Path) -> Path:
    """Print an HTML file on A4 landscape; the browser gets a profile of its own and no network.

    Raises:
        ProstateXferError: the browser did not write the file.
    """
    with tempfile.TemporaryDirectory(prefix="prostatexfer-", ignore_cleanup_errors=True) as name:
        profile, copy = Path(name) / "profile", Path(name) / "page.html"
        copy.write_text(page.read_text(encoding="utf-8").replace("</style>", f"{_PAPER}</style>", 1), encoding="utf-8")
        words = [
            str(browser),
            "--headless",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-extensions",
            "--no-pdf-header-footer",
            f"--user-data-dir={profile}",
            f"--print-to-pdf={pdf.resolve()}",
            copy.resolve().as_uri(),
        ]
        if sys.platform.startswith("linux") and os.geteuid() == 0:
            words.insert(1, "--no-sandbox")  # which root cannot have
        try:
            subprocess.run(words, check=True, capture_output=True, timeout=_LIMIT_SECONDS)
        except (OSError, subprocess.SubprocessError) as error:
            raise ProstateXferError(_failed(browser)) from error
    if not pdf.is_file():
        raise ProstateXferError(_failed(browser))
    return pdf


def _failed(browser: Path) -> str:
    return f"'{browser.name}' could not print the report: open report.html in a browser and print it to a file."
