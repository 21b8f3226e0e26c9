# SPDX-License-Identifier: Apache-2.0
"""What the server asks of the sites in a round, and how it and a file become a Flower message."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import atomic_file
from ProstateXferLib.training.exchange.signature import is_signed_with, sign

_FILE, _ORDER, _SIGNATURE = "file", "order", "signature"


@dataclass(frozen=True)
class Order:
    """Train from the checkpoint that comes with it, or keep it as the result.

    Attributes:
        federation: SHA-256 of the checkpoint that all sites started from: which run this is.
        number, rounds: this round, from 1, and how many there are.
        batch_norm: what sites keep for themselves (`averaging.local_names`).
        final: there is nothing more to train: the checkpoint is the result.
    """

    federation: str
    number: int
    rounds: int
    batch_norm: str
    final: bool = False


def order_record(order: Order, checkpoint: bytes, key: bytes | None) -> dict[str, Any]:
    """name -> Flower record: the order, its signature with the sites' key, and the file."""
    from flwr.app import ConfigRecord

    values: dict[str, Any] = {_ORDER: json.dumps(asdict(order))}
    if key is not None:
        values[_SIGNATURE] = sign(_signed(values[_ORDER], checkpoint), key).decode()
    return {_ORDER: ConfigRecord(values), **file_record(checkpoint)}


def read_order(content: Any, key: bytes | None) -> tuple[Order, bytes]:
    """The order and the checkpoint's bytes.

    Args:
        content: of the message.
        key: the sites' shared key; the order must then be signed with it, so that no stranger can make a site train.

    Raises:
        ProstateXferError: not an order, or not signed with the key.
    """
    checkpoint = read_file(content)
    try:
        text = str(content[_ORDER][_ORDER])
        order = Order(**json.loads(text))
    except (KeyError, TypeError, ValueError) as error:
        raise ProstateXferError("The server sent no order: the server and all sites need the same ProstateXfer.") from (
            error
        )
    if key is not None:
        signature = str(content[_ORDER].get(_SIGNATURE, "")).encode()
        if not is_signed_with(signature, _signed(text, checkpoint), key):
            raise ProstateXferError("The server does not have the key of this site: compare the key files.")
    return order, checkpoint


def file_record(data: bytes) -> dict[str, Any]:
    """name -> Flower record of a file's bytes; Flower sends long arrays in parts."""
    from flwr.app import ArrayRecord

    return {_FILE: ArrayRecord([np.frombuffer(data, np.uint8)])}


def read_file(content: Any) -> bytes:
    """The bytes of the file in a message.

    Raises:
        ProstateXferError: there is not one file.
    """
    arrays = content[_FILE].to_numpy_ndarrays() if _FILE in content else []
    if len(arrays) != 1 or arrays[0].dtype != np.uint8:
        raise ProstateXferError("A message holds no file: the server and all sites need the same ProstateXfer.")
    return arrays[0].tobytes()


def write_bytes(path: Path, data: bytes) -> Path:
    """Write a file that was received."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)
    return path


def _signed(order: str, checkpoint: bytes) -> bytes:
    return f"{order} {hashlib.sha256(checkpoint).hexdigest()}".encode()
