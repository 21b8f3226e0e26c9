# SPDX-License-Identifier: Apache-2.0
"""Packages that only some metrics need."""

import importlib
from types import ModuleType

from ProstateXferLib.errors import ProstateXferError


def optional_package(module: str, extra: str, purpose: str) -> ModuleType:
    """Import a package of the extra, or say in one sentence what to install for `purpose` (a plural noun)."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ProstateXferError(
            f'{purpose} need the package {error.name}, which is not installed; run "pip install prostatexfer[{extra}]".'
        ) from error
