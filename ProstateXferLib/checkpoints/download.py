# SPDX-License-Identifier: Apache-2.0
"""Fetching a registered model: to a temporary file, checked against its sha256, then renamed."""

import hashlib
import http.client
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from ProstateXferLib.checkpoints.registry import MODELS_VARIABLE, KnownModel, user_models_folder
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import atomic_file
from ProstateXferLib.progress import Progress, SilentProgress, raise_if_cancelled

_CHUNK = 1 << 18
_TIMEOUT_S = 30


def fetch_model(model: KnownModel, progress: Progress | None = None) -> Path:
    """Download a model into the user's models folder. Proxies are taken from the environment (https_proxy).

    Nothing but the file is asked for and nothing is sent. A file whose sha256 differs from the registry's is discarded.

    Raises:
        ProstateXferError: no address, network trouble, wrong checksum, no space.
        CancelledError: the user stopped.
    """
    progress = progress or SilentProgress()
    if not model.url or not model.file or not model.sha256:
        raise ProstateXferError(
            f"'{model.name}' cannot be fetched: {model.obtain or 'the registry gives no address for it'}"
        )
    if not model.url.startswith(("https://", "http://")):  # urllib would open file: and ftp:, too
        raise ProstateXferError(f"'{model.name}' cannot be fetched: '{model.url}' is no web address; correct it.")
    folder = user_models_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ProstateXferError(
            f"The models folder '{folder}' cannot be made ({error.strerror}): choose another with {MODELS_VARIABLE}."
        ) from error
    target = folder / model.file
    with atomic_file(target) as temporary:
        digest = _download(model, temporary, progress)
        if digest != model.sha256.lower():
            raise ProstateXferError(
                f"The file fetched for '{model.name}' has sha256 {digest[:12]}… instead of "
                f"{model.sha256[:12]}…: it was discarded; try again later or tell the maintainers."
            )
    return target


def _download(model: KnownModel, path: Path, progress: Progress) -> str:
    digest, done, total = hashlib.sha256(), 0, 0
    with path.open("wb") as stream:
        for chunk, total in _chunks(model):
            raise_if_cancelled(progress)
            stream.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            progress.update("fetch", done / total if total else 0.0, f"{done / 1e6:.0f} MB of {model.name}")
    if total and done != total:
        raise ProstateXferError(f"The download of '{model.name}' broke off after {done} of {total} bytes: try again.")
    return digest.hexdigest()


def _chunks(model: KnownModel) -> Iterator[tuple[bytes, int]]:
    """The file in pieces, each with the announced length of the whole (0 where the server announced none)."""
    try:
        with urllib.request.urlopen(model.url, timeout=_TIMEOUT_S) as answer:
            length = answer.headers.get("Content-Length") or ""
            total = int(length) if length.isdecimal() else 0
            while chunk := answer.read(_CHUNK):
                yield chunk, total
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = " ".join(str(getattr(error, "reason", None) or error).split())[:160]  # a server's words, it may be
        raise ProstateXferError(
            f"'{model.name}' could not be fetched from {model.url} ({reason}): check the network or proxy, or "
            f"put the file into {user_models_folder()} yourself."
        ) from error
