# SPDX-License-Identifier: Apache-2.0
"""From a weights package to the checkpoint that training starts from."""

import tempfile
from pathlib import Path
from typing import Any

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.checkpoints.file_format import SUFFIX, file_sha256, read_checkpoint
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import make_folder, require_folder_of
from ProstateXferLib.training.exchange.container import is_container
from ProstateXferLib.training.exchange.record import ExchangeRecord
from ProstateXferLib.training.exchange.verify import Verification, verify_package


def resume_from(package: Path, checkpoint: Path, *, key: bytes | None = None) -> Verification:
    """Verify a package and write its model, byte for byte, as a checkpoint.

    Raises:
        ProstateXferError: the package fails a check, or the checkpoint cannot be written.
    """
    checkpoint = Path(checkpoint)
    if checkpoint.suffix != SUFFIX:
        raise ProstateXferError(f"A checkpoint's file name must end in {SUFFIX}; '{checkpoint.name}' does not.")
    require_folder_of(checkpoint)
    verification = verify_package(package, key=key, unpack_to=checkpoint)
    verification.require()
    return verification


def read_package(package: Path, *, key: bytes | None = None) -> tuple[ModelCard, dict[str, Any], ExchangeRecord]:
    """Card, weights and record of a package that passes every check.

    Raises:
        ProstateXferError: it fails one.
    """
    with tempfile.TemporaryDirectory(prefix="prostatexfer-weights-") as folder:
        checkpoint = Path(folder) / f"model{SUFFIX}"
        verification = resume_from(package, checkpoint, key=key)
        return *read_checkpoint(checkpoint), verification.record


def checkpoint_of(path: Path, folder: Path) -> Path:
    """The checkpoint behind a file that a recipe starts from: itself, or, of a weights package, its model in `folder`.

    The copy is named after the package's SHA-256, so that it is made once.

    Raises:
        ProstateXferError: a package that fails a check.
    """
    if not is_container(path):
        return Path(path)
    unpacked = make_folder(folder) / f"{file_sha256(path)}{SUFFIX}"
    if not unpacked.is_file():
        resume_from(path, unpacked)
    return unpacked
