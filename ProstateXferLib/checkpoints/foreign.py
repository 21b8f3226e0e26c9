# SPDX-License-Identifier: Apache-2.0
"""Opening checkpoints from strangers without running anything that is in them.

A `.pth` is a pickle, and a pickle is a program. It is opened with torch's weights-only unpickler, which builds tensors
and plain containers and nothing else; the few numpy types that training frameworks leave beside the weights are
allowed by name below. Anything else ends in a refusal, never in a second, looser attempt.
"""

import pickle
import re
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ProstateXferLib.errors import ProstateXferError

WRAPPERS = ("state_dict", "model", "network_weights", "net")
"""Keys under which training frameworks put the weights (Lightning, timm scripts, nnU-Net)."""
SAFE_TORCH = "2.6"
"""Before this version the weights-only reader could be made to run code."""
_DAMAGE = (
    EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError, ImportError, OSError,
    MemoryError, OverflowError, struct.error,
)  # fmt: skip
"""What damaged files were seen to make of torch.load, and a few more of that kind (test_checkpoints_foreign.py)."""


def read_foreign(path: Path) -> dict[str, Any]:
    """The content of a foreign .pth, .pt, .bin or .safetensors file: nested dicts of tensors and plain values.

    Raises:
        ProstateXferError: missing, cut off, no weights, or holding objects that are not data.
    """
    path = Path(path)
    if not path.is_file():
        raise ProstateXferError(f"There is no file '{path}': check the path.")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    content = _read_pickle(path)
    if not isinstance(content, Mapping):
        raise ProstateXferError(f"'{path.name}' holds a {type(content).__name__}, not a dictionary of weights.")
    return dict(content)


def state_dict_of(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The weights inside a foreign file, without wrappers and without the `module.` that DataParallel adds."""
    for key in WRAPPERS:
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    keys = list(content)
    if keys and all(str(key).startswith("module.") for key in keys):
        return {key.removeprefix("module."): value for key, value in content.items()}
    return content


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ProstateXferError(f"'{path.name}' is not a complete safetensors file ({error}): get it again.") from error


def _read_pickle(path: Path) -> Any:
    import torch

    if torch.__version__ < SAFE_TORCH:
        raise ProstateXferError(
            f"PyTorch {torch.__version__} cannot open '{path.name}' without risk (CVE-2025-32434): update it to "
            f"{SAFE_TORCH} or later, or get the weights as a safetensors file."
        )
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_harmless_types()):
            warnings.simplefilter("ignore")  # about protocols and old formats: of no use to whoever opens the file
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if _offender(str(error)):
            raise ProstateXferError(
                f"'{path.name}' holds Python objects that are not weights ({_offender(str(error))}), which "
                "could run code; "
                "nothing in it was executed. Ask its author for a plain state dict or a safetensors file."
            ) from error
        raise _unreadable(path, error) from error
    except _DAMAGE as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ProstateXferError:
    reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
    return ProstateXferError(
        f"'{path.name}' is not a PyTorch checkpoint or is cut off ({reason}): get the file again and compare its size."
    )


def _offender(message: str) -> str:
    """The name of the type or function that torch refused, out of its long explanation; empty for plain damage."""
    pattern = r"GLOBAL ([\w.]+)|unrecognized function (\S+)|Can only (?:create|build) .* got <class '([\w.]+)'"
    found = re.search(pattern, message)
    return next(name for name in found.groups() if name) if found else ""


def _harmless_types() -> list:
    """numpy scalars and dtypes: nnU-Net and others log such numbers beside the weights."""
    import numpy as np
    from numpy._core.multiarray import scalar

    dtypes = [type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")]
    return [(scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"), np.dtype, *dtypes]
