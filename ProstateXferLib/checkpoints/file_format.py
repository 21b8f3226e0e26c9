# SPDX-License-Identifier: Apache-2.0
"""The one-file checkpoint: a safetensors file whose header carries the model card (docs/checkpoint-format.md).

A safetensors file is an 8-byte little-endian header length, a JSON header, and raw tensor bytes: reading it runs no
code. Our header's `__metadata__` holds `format`, `card` (JSON) and `content_sha256`, a hash over the card, the tensor
table and the tensor bytes, so that a file which was altered anywhere is refused.
"""

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import atomic_file, file_sha256

FORMAT = "prostatexfer-checkpoint-1"
SUFFIX = ".safetensors"
_LARGEST_HEADER = 100_000_000  # the safetensors library's own limit
_CHUNK = 1 << 20


def write_checkpoint(path: Path, card: ModelCard, state: Mapping[str, Any]) -> Path:
    """Write weights and card as one file, beside the target first, then renamed.

    Args:
        path: target; its ending must be .safetensors.
        card: the model card.
        state: name -> torch tensor; stored in the dtype it has.

    Raises:
        ProstateXferError: wrong ending, folder missing or not writable, disk full, non-finite weights.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path = Path(path)
    if path.suffix != SUFFIX:
        raise ProstateXferError(f"A checkpoint's file name must end in {SUFFIX}; '{path.name}' does not.")
    tensors = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in state.items()}
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ProstateXferError(f"Weight '{key}' of model '{card.name}' is NaN or infinite: nothing was written.")
    text = card.to_json()
    try:
        with atomic_file(path) as temporary:
            temporary.touch()
            mode = temporary.stat().st_mode  # the user's own; the library makes files that nobody else may read
            save_file(tensors, temporary, metadata={"format": FORMAT, "card": text, "content_sha256": "0" * 64})
            temporary.chmod(mode)
            _seal(temporary, text)
    except SafetensorError as error:  # a full disk ends here: the library has no OSError
        raise ProstateXferError(f"'{path}' could not be written ({error}): check free space.") from error
    return path


def read_card(path: Path) -> ModelCard:
    """The model card alone, without reading the weights.

    Raises:
        ProstateXferError: no checkpoint of ours, cut off, or a malformed card.
    """
    return ModelCard.from_json(_own_metadata(Path(path))["card"])


def read_checkpoint(path: Path) -> tuple[ModelCard, dict[str, Any]]:
    """Card and weights (torch tensors on the CPU, in their stored dtype); the content hash is checked.

    Raises:
        ProstateXferError: no checkpoint of ours, cut off, altered, or a malformed card.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path)
    card = validate_checkpoint(path)
    try:
        return card, load_file(path)
    except (SafetensorError, OSError) as error:
        raise ProstateXferError(f"'{path.name}' could not be read ({error}): get the file again.") from error


def validate_checkpoint(path: Path) -> ModelCard:
    """Check format, length and content hash without building a network; returns the card."""
    path = Path(path)
    metadata = _own_metadata(path)
    header, start = read_header(path)
    if _content_sha256(path, metadata["card"], header, start) != metadata.get("content_sha256"):
        raise ProstateXferError(
            f"'{path.name}' was altered after it was written (its content does not match its checksum): get it again."
        )
    return ModelCard.from_json(metadata["card"])


def is_checkpoint(path: Path) -> bool:
    """Whether the file is a checkpoint of ours (by its header, not its name)."""
    try:
        header, _ = read_header(Path(path))
    except ProstateXferError:
        return False
    return header.get("__metadata__", {}).get("format") == FORMAT


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The JSON header of a safetensors file and the offset of its tensor bytes; the file must be complete.

    Raises:
        ProstateXferError: missing, not a safetensors file, or cut off.
    """
    damaged = f"'{path.name}' is not a complete safetensors file"
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            length = struct.unpack("<Q", stream.read(8).ljust(8, b"\0"))[0]
            if size < 8 or length > min(_LARGEST_HEADER, size - 8):
                raise ProstateXferError(f"{damaged}: it is of another kind or was cut off; get it again or import it.")
            header = json.loads(stream.read(length))
    except OSError as error:
        raise ProstateXferError(
            f"The checkpoint '{path}' cannot be read ({error.strerror}): check the path."
        ) from error
    except (ValueError, RecursionError) as error:
        raise ProstateXferError(f"{damaged}: its header is no JSON; get it again or import it.") from error
    if not isinstance(header, dict) or not _is_text_to_text(header.get("__metadata__", {})):
        raise ProstateXferError(f"{damaged}: its header is malformed; get it again.")
    try:
        end = max((entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"), default=0)
        missing = size - 8 - length - end
    except (TypeError, KeyError, IndexError) as error:
        raise ProstateXferError(f"{damaged}: its tensor table is malformed; get it again.") from error
    if missing:
        raise ProstateXferError(
            f"'{path.name}' should be {8 + length + end} bytes long but has {size}: it was cut off or altered; "
            "get it again."
        )
    return header, 8 + length


def _is_text_to_text(metadata: Any) -> bool:
    return isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())


def _own_metadata(path: Path) -> dict[str, str]:
    metadata = read_header(path)[0].get("__metadata__", {})
    if metadata.get("format") != FORMAT or "card" not in metadata:
        raise ProstateXferError(
            f"'{path.name}' is not a ProstateXfer checkpoint; if it is a DINOv3, MedDINOv3 or DGCF file, import "
            "it first: "
            f'prostatexfer import "{path.name}" OUT{SUFFIX}'
        )
    return metadata


def _seal(path: Path, card: str) -> None:
    """Put the content hash in its place, and the metadata in order: the library writes them in any, and equal content
    shall make equal files."""
    header, start = read_header(path)
    header["__metadata__"]["content_sha256"] = _content_sha256(path, card, header, start)
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(start - 8)
    if len(text) != start - 8:
        raise ProstateXferError(
            f"'{path.name}' could not be sealed: this version of safetensors writes another header."
        )
    with path.open("r+b") as stream:
        stream.seek(8)
        stream.write(text)


def _content_sha256(path: Path, card: str, header: Mapping[str, Any], start: int) -> str:
    table = {key: entry for key, entry in header.items() if key != "__metadata__"}
    digest = hashlib.sha256(card.encode())
    digest.update(json.dumps(table, sort_keys=True).encode())
    with path.open("rb") as stream:
        stream.seek(start, os.SEEK_SET)
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


__all__ = [
    "FORMAT",
    "SUFFIX",
    "file_sha256",
    "is_checkpoint",
    "read_card",
    "read_checkpoint",
    "validate_checkpoint",
    "write_checkpoint",
]
