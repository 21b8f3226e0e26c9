# SPDX-License-Identifier: Apache-2.0
"""Whether a weights package may be trained on: every claim that can be checked, checked."""

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.checkpoints.file_format import file_sha256, read_checkpoint
from ProstateXferLib.checkpoints.loading import build_network
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import atomic_file
from ProstateXferLib.training.exchange.container import MODEL, RECORD, SIGNATURE, Container, read_container
from ProstateXferLib.training.exchange.record import ExchangeRecord, facts_of
from ProstateXferLib.training.exchange.signature import is_signed_with


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; `passed` is None where there was nothing to compare with."""

    name: str
    passed: bool | None
    text: str


@dataclass(frozen=True)
class Verification:
    """What the checks of a package gave; no check follows one that failed."""

    checks: tuple[Check, ...]
    record: ExchangeRecord | None = None
    card: ModelCard | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing was found wrong."""
        return all(check.passed is not False for check in self.checks)

    def require(self) -> None:
        """Raise ProstateXferError with what was found wrong, if anything was."""
        for check in self.checks:
            if check.passed is False:
                raise ProstateXferError(check.text)


def verify_package(path: Path, *, key: bytes | None = None, unpack_to: Path | None = None) -> Verification:
    """Check a package's bytes, signature, record, card and weights, in this order; nothing in it is executed.

    Args:
        path: the package.
        key: the centres' shared key; a package without a signature then fails.
        unpack_to: where to put the checkpoint if all is well.
    """
    checking = _Checking()
    with tempfile.TemporaryDirectory(prefix="prostatexfer-weights-") as folder:
        container = checking("file", lambda: read_container(path), "complete and unaltered")
        record = checking("record", lambda: ExchangeRecord.from_json(container.read(RECORD)), "well formed")
        checking.signature(container, key)
        model = checking("model", lambda: _model_of(container, record, Path(folder)), "has the record's SHA-256")
        card, state = checking("weights", lambda: read_checkpoint(model), "match their checksum") or (None, {})
        checking("card", lambda: _compare(record, card), "agrees with the record")
        checking("finite", lambda: _finite(card, state), "no weight is NaN or infinite")
        checking("architecture", lambda: build_network(card, state), "can be built, and the weights fit")
        if unpack_to is not None:
            checking("unpacked", lambda: _put(model, unpack_to), str(unpack_to))
    return Verification(tuple(checking.checks), record, card)


class _Checking:
    """Runs checks until one fails."""

    def __init__(self) -> None:
        self.checks: list[Check] = []
        self.failed = False

    def __call__(self, name: str, check: Callable[[], Any], text: str) -> Any:
        if self.failed:
            return None
        try:
            value = check()
        except ProstateXferError as error:
            self.checks.append(Check(name, False, str(error)))
            self.failed = True
            return None
        self.checks.append(Check(name, True, text))
        return value

    def signature(self, container: Container | None, key: bytes | None) -> None:
        """Compared with the key, where one is given; a key asks for a signature, a signature not for a key."""
        if self.failed:
            return
        signed = SIGNATURE in container.members
        if key is None:
            text = "there is one, not checked: give the key" if signed else "none"
            self.checks.append(Check("signature", None, text))
            return
        self("signature", lambda: _compare_signature(container, key), "made with this key")


def _compare_signature(container: Container, key: bytes) -> None:
    name = container.path.name
    if SIGNATURE not in container.members:
        raise ProstateXferError(f"'{name}' is not signed, but a key was given: ask the sender to export it with --key.")
    if not is_signed_with(container.read(SIGNATURE), container.read(RECORD), key):
        raise ProstateXferError(
            f"The signature of '{name}' was not made with this key: it is not from one who has the key, was altered "
            "since, or the key file is another; do not use the package."
        )


def _model_of(container: Container, record: ExchangeRecord, folder: Path) -> Path:
    model = container.copy(MODEL, folder / MODEL)
    if file_sha256(model) != record.model_sha256:
        raise ProstateXferError(
            f"The model in '{container.path.name}' is not the one that its record describes: get the package again."
        )
    return model


def _compare(record: ExchangeRecord, card: ModelCard) -> None:
    for name, value in facts_of(card).items():
        if json.dumps(getattr(record, name)) != json.dumps(value):  # as text: a score may be NaN, which equals nothing
            raise ProstateXferError(f"The record's {name} is not what the model's card says: get the package again.")
    last = card.history[-1] if card.history else {}
    claims = {"stage": "export", "site": record.site, "patients": record.patients}
    if {key: last.get(key) for key in claims} != claims or record.patients < 1:
        raise ProstateXferError("The record's site or patients are not what the model's history says: get it again.")


def _put(model: Path, target: Path) -> None:
    # The copy that was checked, not the package once more: that may have been changed in between.
    with atomic_file(target) as temporary:
        shutil.copyfile(model, temporary)


def _finite(card: ModelCard, state: dict[str, Any]) -> None:
    for name, tensor in state.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ProstateXferError(f"Weight '{name}' of model '{card.name}' is NaN or infinite: do not use it.")
