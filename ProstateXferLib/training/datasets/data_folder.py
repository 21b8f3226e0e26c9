# SPDX-License-Identifier: Apache-2.0
"""Where data sets lie on this machine."""

import os
from pathlib import Path

DATA_VARIABLE = "PROSTATEXFER_DATA"


def data_root(chosen: str | Path | None) -> Path:
    """The folder that recipes' data paths are relative to: the argument, $PROSTATEXFER_DATA, or the current folder."""
    return Path(chosen or os.environ.get(DATA_VARIABLE) or ".")
