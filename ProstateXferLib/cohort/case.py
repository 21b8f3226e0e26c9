# SPDX-License-Identifier: Apache-2.0
"""One case of a batch: a name that is safe as a folder's, and its images."""

import unicodedata
from dataclasses import dataclass

from ProstateXferLib.cohort.inputs import StudyInputs
from ProstateXferLib.errors import ProstateXferError

BATCH_FILES = ("measurements.csv", "synthesis.csv", "batch.jsonl")
"""What a batch writes beside the folders of its cases."""
_FORBIDDEN = set('/\\<>:"|?*')
_WINDOWS_DEVICES = {"con", "prn", "aux", "nul", *(f"{kind}{n}" for kind in ("com", "lpt") for n in range(1, 10))}
_LONGEST_BYTES = 180  # of the 255 a file system allows; temporary names are longer


@dataclass(frozen=True)
class Case:
    """A name, unique in its batch, and the images."""

    name: str
    inputs: StudyInputs


def checked_case_name(text: str, where: str) -> str:
    """The name in one Unicode form, or a sentence why it cannot be a folder's name on every system.

    `where` says where it was read ("line 3 of 'cases.csv'").
    """
    name = unicodedata.normalize("NFC", text.strip())
    problem = None
    if not name:
        problem = "is empty"
    elif name.startswith(".") or name.endswith("."):
        problem = "begins or ends with a dot"
    elif bad := sorted(sign for sign in set(name) if sign in _FORBIDDEN or not sign.isprintable()):
        problem = f"has {bad[0]!r} in it"
    elif name.split(".")[0].casefold() in _WINDOWS_DEVICES or name.casefold() in BATCH_FILES:
        problem = "is taken"
    elif len(name.encode()) > _LONGEST_BYTES:
        problem = f"is longer than {_LONGEST_BYTES} bytes"
    if problem:
        raise ProstateXferError(
            f"The case name '{name}' ({where}) {problem}, and its folder is to have that name: choose another."
        )
    return name


def folder_key(name: str) -> str:
    """What two names share that would be one folder on a disk that does not tell capitals."""
    return name.casefold()
