# SPDX-License-Identifier: Apache-2.0
"""Which files lie in a folder, and what a table says."""

import csv


def files_in(folder):
    """Names of what lies in the folder itself, folders included; none where it does not exist."""
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []


def files_below(folder):
    """Paths of the files in the folder and in the folders below it, as text relative to it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def rows_of(path):
    """The rows of a CSV file, each as column name -> text."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
