# SPDX-License-Identifier: Apache-2.0
"""The Python that a child runs in, and its environment.

Slicer brings PythonSlicer, a launcher that sets up everything. A Slicer built on a system's own Python may have none,
and its own executable is no Python: run with `-m …` it would open a second Slicer. So a candidate is known by its name
first and asked second.
"""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import ProstateXferLib
from ProstateXferLib.errors import ProstateXferError
from ProstateXferSlicer.work.python_probe import canCompute

VARIABLE = "PROSTATEXFER_PYTHON"
_OUR_VARIABLES = "PROSTATEXFER_"
_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
_EXE = ".exe" if os.name == "nt" else ""
_PYTHONS_NAME = re.compile(r"python(\d+(\.\d+)?)?(-real)?(\.exe)?", re.IGNORECASE)
_LAUNCHERS_NAME = re.compile(r"PythonSlicer(\.exe)?", re.IGNORECASE)


@dataclass(frozen=True)
class ChildPython:
    """A program that takes Python's arguments, and the environment to start it with."""

    program: str
    environment: dict[str, str]


def findPython() -> ChildPython:
    """The Python for a child, in this order: the one that PROSTATEXFER_PYTHON names, PythonSlicer, this application's.

    Outside Slicer it is the Python that runs this, in the environment as it is.

    Raises:
        ProstateXferError: there is none; the message says what to do.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return _namedPython(named)
    if _application() is None and sys.executable:
        return ChildPython(sys.executable, _environmentAsItIs())
    launcher = _launcher()
    if launcher:
        return ChildPython(launcher, _startupEnvironment())
    for program in _applicationsPythons():
        for environment in _applicationsEnvironments():
            if canCompute(program, environment):
                return ChildPython(program, environment)
    raise ProstateXferError(
        f"No Python {_VERSION} with numpy was found to compute in: set the environment variable {VARIABLE} to one and "
        "start Slicer again."
    )


def libraryCommand(*words: str) -> list[str]:
    """The command line that runs the library's command `words` in a child."""
    return [findPython().program, "-m", "ProstateXferLib", *map(str, words)]  # QProcess takes no paths


def _namedPython(named: str) -> ChildPython:
    program = _executable(Path(named).expanduser())
    if program is None:
        raise ProstateXferError(f"{VARIABLE} names '{named}', which is no program: correct the variable or unset it.")
    if _LAUNCHERS_NAME.fullmatch(Path(program).name):
        return ChildPython(program, _startupEnvironment())
    if _application() is None:
        attempts = [(_environmentAsItIs(), True)]
    else:
        # With the application's packages, or else with its own.
        attempts = [(environment, False) for environment in _applicationsEnvironments()]
        attempts.append((_startupEnvironment(), True))
    for environment, anyVersion in attempts:
        if canCompute(program, environment, anyVersion=anyVersion):
            return ChildPython(program, environment)
    raise ProstateXferError(
        f"{VARIABLE} names '{named}', which is no Python of version 3.11 or later with numpy: correct the variable or "
        "unset it."
    )


def _application() -> Any:
    """The Slicer application; None in any other Python, PythonSlicer included."""
    slicer: ModuleType | None = sys.modules.get("slicer")
    return getattr(slicer, "app", None)


def _launcher() -> str | None:
    home = getattr(_application(), "slicerHome", None)
    # This Slicer's own first: another one's may come first on the PATH.
    beside = _executable(Path(home, "bin", f"PythonSlicer{_EXE}")) if isinstance(home, str) and home else None
    return beside or shutil.which("PythonSlicer")


def _applicationsPythons() -> Iterator[str]:
    """Programs that may be the Python which is built into this application."""
    for program in (sys.executable, getattr(sys, "_base_executable", "")):
        if program and _PYTHONS_NAME.fullmatch(Path(program).name) and _executable(program):
            yield program
    for prefix in dict.fromkeys((sys.exec_prefix, sys.base_exec_prefix)):
        beside = Path(prefix, f"python{_EXE}") if os.name == "nt" else Path(prefix, "bin", f"python{_VERSION}")
        if _executable(beside):
            yield str(beside)
    for name in (f"python{_VERSION}", "python3", "python"):
        found = shutil.which(name)
        if found:
            yield found


def _executable(program: Path | str) -> str | None:
    return shutil.which(str(program))  # a path would come back as one, which subprocess takes and QProcess does not


def _environmentAsItIs() -> dict[str, str]:
    return _completed(dict(os.environ))


def _startupEnvironment() -> dict[str, str]:
    """For PythonSlicer: as it was before Slicer's launcher changed it, since that one sets up the same once more."""
    util = getattr(sys.modules.get("slicer"), "util", None)
    environment = dict(os.environ)
    if _application() is not None and hasattr(util, "startupEnvironment"):
        environment = {str(name): str(value) for name, value in util.startupEnvironment().items()}
    environment.pop("PYTHONHOME", None)
    return _completed(environment)


def _applicationsEnvironments() -> list[dict[str, str]]:
    """For a plain Python: as the application's, with the packages that the application finds, where it finds them.

    PYTHONHOME belongs to the Python inside the application; it is handed on only if the child cannot do without.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(_packageFolders())}
    without = {name: value for name, value in environment.items() if name != "PYTHONHOME"}
    return [_completed(each) for each in ([without] if without == environment else [without, environment])]


def _packageFolders() -> list[str]:
    """sys.path but for what is not there, and for the standard library: the child has the one that fits it."""
    standard = Path(os.__file__).parent
    left_out = {standard, standard / "lib-dynload"}
    entries = [Path(entry).absolute() for entry in sys.path if isinstance(entry, str) and entry]
    return [
        str(entry) for entry in entries if entry not in left_out and os.pathsep not in str(entry) and entry.exists()
    ]


def _completed(environment: dict[str, str]) -> dict[str, str]:
    """With the library to be found, output as it comes and in UTF-8, and our own settings."""
    library = str(Path(ProstateXferLib.__file__).absolute().parent.parent)
    folders = [library, *environment.get("PYTHONPATH", "").split(os.pathsep)]
    # Settings made in Slicer's Python console, the models folder for one, are not in the startup environment.
    ours = {name: value for name, value in os.environ.items() if name.startswith(_OUR_VARIABLES)}
    return {
        **environment,
        **ours,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(folder for folder in folders if folder)),
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
        "PYTHONIOENCODING": "utf-8:replace",
        # Or `-m` would look for modules in the current folder first, and a user's random.py would be found.
        "PYTHONSAFEPATH": "1",
        "PROSTATEXFER_PARENT_PID": str(os.getpid()),
    }
