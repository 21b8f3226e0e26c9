# SPDX-License-Identifier: Apache-2.0
"""What a PyTorch checkpoint holds beside its weights, read in milliseconds and without PyTorch.

A `.pth` is a zip archive: `data.pkl` is a pickle of names, numbers and places, and the weights lie in entries of their
own, which are not read. Every class and function that the pickle asks for is answered by one that does nothing, so that
no file can run anything; `foreign.read_foreign` decides when the weights are opened.
"""

import pickle
import struct
import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from ProstateXferLib.errors import ProstateXferError

_LARGEST_PICKLE = 64_000_000
"""Bytes; that of an nnU-Net after a thousand epochs has about one million."""
_PACKAGES = ("torch", "numpy", "collections", "_codecs")
_OF_PYTHON = {(module, name) for module in ("builtins", "__builtin__") for name in ("set", "bytearray")}
"""What torch's own weights-only reader takes from Python itself."""
_DAMAGE = (
    EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, OSError, MemoryError, OverflowError,
    NotImplementedError, struct.error, pickle.UnpicklingError, zipfile.BadZipFile,
)  # fmt: skip


@dataclass(frozen=True)
class TensorOutline:
    """A tensor that was not read: its shape."""

    shape: tuple[int, ...]


def read_outline(path: Path) -> dict[str, Any]:
    """The dictionary in a `.pth`, with a `TensorOutline` for every tensor.

    Raises:
        ProstateXferError: missing, cut off, no dictionary, or holding objects that are not data.
    """
    path = Path(path)
    try:
        content = _Outliner(path, BytesIO(_pickle_of(path))).load()
    except FileNotFoundError as error:
        raise ProstateXferError(f"There is no file '{path}': check the path.") from error
    except _DAMAGE as error:
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise ProstateXferError(
            f"'{path.name}' is not a PyTorch checkpoint or is cut off ({reason}): get the file again and compare its "
            "size."
        ) from error
    if not isinstance(content, dict):
        raise ProstateXferError(f"'{path.name}' holds no dictionary of weights: get the file again.")
    return dict(content)


def _pickle_of(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        entry = next(item for item in archive.infolist() if item.filename.endswith("/data.pkl"))
        if entry.file_size > _LARGEST_PICKLE:
            raise ValueError(f"{entry.file_size} bytes beside the weights")
        return archive.read(entry)


class _Nothing:
    """Stands for whatever is not made; takes everything that a pickle may do to an object."""

    def __new__(cls, *_: Any, **__: Any) -> "_Nothing":
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        """Keep nothing."""

    def __setstate__(self, state: Any) -> None:
        """Keep nothing."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Keep nothing."""

    def append(self, value: Any) -> None:
        """Keep nothing."""

    def extend(self, values: Any) -> None:
        """Keep nothing."""


class _Dictionary(dict):
    """An OrderedDict without the attributes that PyTorch hangs on it (`_metadata`)."""

    def __setstate__(self, state: Any) -> None:
        """Keep nothing."""


class _Outliner(pickle.Unpickler):
    """Knows a few names by what they mean; the others mean nothing."""

    def __init__(self, path: Path, stream: BytesIO) -> None:
        super().__init__(stream)
        self._name = path.name

    def find_class(self, module: str, name: str) -> Any:
        """A class or function that makes no object but ours."""
        if module.split(".")[0] not in _PACKAGES and (module, name) not in _OF_PYTHON:
            raise ProstateXferError(
                f"'{self._name}' holds Python objects that are not weights ({module}.{name}), which could run code; "
                "nothing in it was executed. Ask its author for a plain state dict or a safetensors file."
            )
        return _KNOWN.get((module, name), _Nothing)

    def persistent_load(self, pid: Any) -> None:
        """The place of a tensor's numbers."""


def _tensor(storage: None, offset: int, size: Any, *_: Any) -> TensorOutline:
    return TensorOutline(tuple(int(side) for side in size))


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _number(*_: Any) -> None:
    """One of the thousands that nnU-Net logs: a function, because making objects of them takes most of the time."""


_KNOWN = {
    ("_codecs", "encode"): _number,
    ("numpy._core.multiarray", "scalar"): _number,
    ("numpy.core.multiarray", "scalar"): _number,
    ("collections", "OrderedDict"): _Dictionary,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}
