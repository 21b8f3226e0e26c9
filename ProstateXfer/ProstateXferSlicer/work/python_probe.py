# SPDX-License-Identifier: Apache-2.0
"""Whether a program is a Python that the library can run in; found out by asking it, once."""

import os
import subprocess
import sys
from collections.abc import Mapping

_QUESTION = 'import sys, numpy; print("ProstateXfer", *sys.version_info[:2])'
_TIMEOUT_S = 30.0
_OLDEST = (3, 11)
_answers: dict[tuple[str, ...], tuple[int, int] | None] = {}


def canCompute(program: str, environment: Mapping[str, str], *, anyVersion: bool = False) -> bool:
    """Whether `program` is a Python that finds numpy in this environment.

    It must be of this application's version, whose compiled packages it is to load; with `anyVersion`, for one that
    brings its own packages, of a version that the library runs in.
    """
    version = _versionOf(program, environment)
    if version is None:
        return False
    return version >= _OLDEST if anyVersion else version == sys.version_info[:2]


def _versionOf(program: str, environment: Mapping[str, str]) -> tuple[int, int] | None:
    key = (program, *(environment.get(name, "") for name in ("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH")))
    if key not in _answers:
        _answers[key] = _ask(program, environment)
    return _answers[key]


def _ask(program: str, environment: Mapping[str, str]) -> tuple[int, int] | None:
    try:
        done = subprocess.run(
            [program, "-c", _QUESTION],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_TIMEOUT_S,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            check=False,
            cwd=os.path.dirname(program) or None,  # noqa: PTH120 - not the current folder: a numpy.py may lie there
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    words = done.stdout.split()[-3:]
    if done.returncode != 0 or len(words) != 3 or words[0] != "ProstateXfer":
        return None
    return int(words[1]), int(words[2])
