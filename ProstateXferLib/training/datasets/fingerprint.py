# SPDX-License-Identifier: Apache-2.0
"""What a model card says about the data it was trained on: enough to check it by whoever has the data, nothing else."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ProstateXferLib.training.cache.file_hashes import FileHashes
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.tasks.task import StageData

_ID_DIGITS = 12


def data_record(cases: Sequence[Case], *, cache: Path | None = None) -> dict[str, Any]:
    """Number of cases and one sha256 over the contents of all their files.

    Returns {"cases": int, "patients": int, "sha256": 64 digits}. The digest is over the sorted lines
    "kind sha256-of-file", the kind being a sequence ("T2w"), a structure with its label values
    ("mask:Prostate:1,2") or a phantom's seed: it depends on no path and no id, so that the same data gives the same
    digest in another folder. With `cache`, a folder, files are hashed again only if their size or time has changed.

    Raises:
        ProstateXferError: a file is missing.
    """
    hashes = FileHashes(cache)
    lines = sorted(line for case in cases for line in _lines(case, hashes))
    hashes.save()
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return {"cases": len(cases), "patients": len({case.patient_id for case in cases}), "sha256": digest}


def hashed_ids(cases: Iterable[Case]) -> list[str]:
    """First 12 hexadecimal digits of the sha256 of each case id, sorted: checkable by who has the cases, no id told."""
    return sorted(hashlib.sha256(case.case_id.encode()).hexdigest()[:_ID_DIGITS] for case in cases)


def sides_record(data: StageData) -> dict[str, list[str]]:
    """The hashed ids of every side of a split, as cards and `split.json` have them."""
    train = [case for _, cases in data.train for case in cases]
    sides = {"train": train, "validation": data.validation, "tuning": data.tuning, "test": data.test}
    return {side: hashed_ids(cases) for side, cases in sides.items()}


def _lines(case: Case, hashes: FileHashes) -> list[str]:
    lines = [
        f"{name}{f'[{case.channels[name]}]' if name in case.channels else ''} {hashes.of(path)}"
        for name, path in case.images.items()
    ]
    for name, masks in case.masks.items():
        for mask in masks:
            lines.append(f"mask:{name}:{','.join(map(str, mask.values))} {hashes.of(mask.path)}")
        if not masks:
            lines.append(f"mask:{name}:none")
    if not case.images:  # a phantom: its seed is its content
        lines += [f"{key}={value}" for key, value in sorted(case.attributes.items())]
    return lines
