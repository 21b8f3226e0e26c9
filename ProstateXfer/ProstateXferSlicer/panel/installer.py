# SPDX-License-Identifier: Apache-2.0
"""First run: the packages Slicer does not bring are named, asked for once and installed by Slicer's own means.

pip never gets numpy, SimpleITK, scipy or PyTorch, and may change nothing that is installed: every installed version is
pinned while it works. An installation that "improves" one of those is how Slicer itself gets broken.
"""

import importlib
import importlib.metadata
import importlib.util
import logging
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import slicer
from slicer.i18n import tr as _

from ProstateXferLib.cli.packages import OPTIONAL, REQUIRED, Package
from ProstateXferLib.errors import ProstateXferError
from ProstateXferSlicer.temporary import temporaryPath

REQUESTER = "ProstateXfer"
WHEEL_FOLDER_VARIABLE = "PROSTATEXFER_WHEELS"
WHEEL_FOLDER_SETTING = "ProstateXfer/WheelFolder"
TORCH_REQUIREMENT = ">=2.6"
TORCH_MODULE = "PyTorchUtils"  # of the extension PyTorch


@dataclass(frozen=True)
class _Download:
    requirement: str
    size: str  # with what it needs in turn, for the question only


# What pip may be given, and nothing else. Lower bounds only: Slicer decides on versions.
_FOR_PIP = {
    "safetensors": _Download("safetensors>=0.4.3", "0.5 MB"),
    "matplotlib": _Download("matplotlib>=3.8", "20 MB"),
}
_TORCH_SIZE = "0.2 GB; up to 3 GB with CUDA"
_NEEDED = {
    "run": REQUIRED,
    "report": REQUIRED + tuple(package for package in OPTIONAL if package.module == "matplotlib"),
}


def missingPackages(purpose: str = "run") -> list[Package]:
    """What `purpose` ("run" or "report") needs and this Python does not have; imports nothing."""
    importlib.invalidate_caches()  # another extension may have installed something a moment ago
    return [package for package in _NEEDED[purpose] if not _isImportable(package.module)]


def ensurePackages(purpose: str = "run") -> bool:
    """Ask once and install what `purpose` needs; True when all of it is there.

    For the slot of a button only: it asks, and it blocks (repainting) while pip works.

    Raises:
        ProstateXferError: the user declined, or something cannot be installed from here; the sentence says what to do.
    """
    missing = missingPackages(purpose)
    if not missing:
        return True
    names = _listed(package.distribution for package in missing)
    if slicer.app.testingEnabled():
        # Slicer answers its own questions with "OK" while it is tested.
        raise ProstateXferError(_("{names}: not installed, and a test installs nothing.").format(names=names))
    folder = wheelFolder()
    _refuseWhatCannotBeInstalled(missing, folder)
    if not slicer.util.confirmOkCancelDisplay(_question(missing, folder), windowTitle=_("ProstateXfer: first run")):
        raise ProstateXferError(_("{names}: not installed, as you chose; nothing was changed.").format(names=names))
    forPip = [_FOR_PIP[package.module].requirement for package in missing if package.module in _FOR_PIP]
    if forPip:
        _pipInstall(forPip, folder)
    if any(package.module == "torch" for package in missing):
        _installTorch()
    if still := missingPackages(purpose):
        names = _listed(package.distribution for package in still)
        raise ProstateXferError(
            _("{names}: installed, but not found: restart Slicer and try again.").format(names=names)
        )
    return True


def wheelFolder() -> Path | None:
    """The folder with wheel files to install from without a network; None for pip's usual source.

    The environment variable PROSTATEXFER_WHEELS goes before the setting "ProstateXfer/WheelFolder".
    """
    chosen = os.environ.get(WHEEL_FOLDER_VARIABLE) or slicer.util.settingsValue(WHEEL_FOLDER_SETTING, "")
    if not chosen:
        return None
    folder = Path(chosen).expanduser()
    if not folder.is_dir():
        raise ProstateXferError(
            _("The folder with wheel files, {folder}, does not exist: correct {variable} or the setting {key}.").format(
                folder=folder, variable=WHEEL_FOLDER_VARIABLE, key=WHEEL_FOLDER_SETTING
            )
        )
    return folder


def pinnedVersions(besides: tuple[str, ...] = ()) -> list[str]:
    """A pip constraint "name==version" for everything installed but `besides`."""
    pins = {"numpy": np.__version__}  # in case the application brought it without its metadata
    for distribution in importlib.metadata.distributions():
        name, version = distribution.metadata["Name"], distribution.version
        # A folder left behind by a broken installation has neither; pip refuses a whole file for one bad line.
        if name and version and re.fullmatch(r"[\w.-]+", name) and re.fullmatch(r"\d[\w.!+-]*", version):
            pins.setdefault(_canonical(name), version)
    return [f"{name}=={version}" for name, version in sorted(pins.items()) if name not in besides]


def _refuseWhatCannotBeInstalled(missing: list[Package], folder: Path | None) -> None:
    """Raise before anything is asked or touched."""
    if bundled := [p.distribution for p in missing if p.module not in _FOR_PIP and p.module != "torch"]:
        raise ProstateXferError(
            _("{names}: part of Slicer itself, but missing: install Slicer again.").format(names=_listed(bundled))
        )
    if not any(package.module == "torch" for package in missing):
        return
    if folder is not None:
        raise ProstateXferError(
            _('PyTorch is missing: close Slicer and run "{program}" -m pip install --no-index --find-links "{folder}" '
              '"torch{bound}".').format(program=_pythonProgram(), folder=folder, bound=TORCH_REQUIREMENT)
        )  # fmt: skip
    if not _isImportable(TORCH_MODULE):
        raise ProstateXferError(
            _("PyTorch is missing: install the extension PyTorch in the Extensions Manager, restart Slicer, try again.")
        )


def _question(missing: list[Package], folder: Path | None) -> str:
    lines = [_("ProstateXfer needs packages that Slicer does not bring:"), ""]
    for package in missing:
        if package.module == "torch":
            note = _("by the extension PyTorch, which asks once more and names the build it has chosen")
            lines.append(f"• PyTorch ({_TORCH_SIZE}), {note}")
        else:
            lines.append(f"• {package.distribution} ({_FOR_PIP[package.module].size})")
    source = _("They come from {folder}").format(folder=folder) if folder else _("They are downloaded (pip's source)")
    place = _("and go to {path}.").format(path=sysconfig.get_paths()["purelib"])
    promise = _("Nothing that is installed is changed. Nothing is sent: images never leave this computer.")
    return "\n".join([*lines, "", f"{source} {place}", promise, "", _("Install now?")])


def _pipInstall(requirements: list[str], folder: Path | None) -> None:
    """Let Slicer's pip install `requirements` with everything else pinned."""
    source = ["--no-index", "--find-links", str(folder)] if folder else []
    with tempfile.TemporaryDirectory(prefix="ProstateXfer-", dir=temporaryPath()) as temporary:
        constraints, log = Path(temporary) / "constraints.txt", Path(temporary) / "pip.log"
        besides = tuple(_canonical(re.split(r"[<>=]", requirement)[0]) for requirement in requirements)
        constraints.write_text("\n".join(pinnedVersions(besides)) + "\n", encoding="utf-8")
        # Wheels only: nobody's computer in a clinic has the compilers for a source package.
        options = ["--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--log", str(log)]
        try:
            _runPip([*options, *source, *requirements], constraints)
        except (subprocess.CalledProcessError, RuntimeError, OSError) as error:
            raise ProstateXferError(
                _("{names}: not installed ({reason}): check the network, proxy or wheel folder (docs/installing.md).")
                .format(names=_listed(besides), reason=_reason(log, error))
            ) from error  # fmt: skip


def _runPip(arguments: list[str], constraints: Path) -> None:
    packaging = _slicerPackaging()
    if packaging is None:  # Slicer 5.8 and 5.10
        slicer.util.pip_install([*arguments, "-c", str(constraints)])
    else:
        # Not pip_ensure: it takes requirements alone, no options, and would ask a second time.
        packaging.pip_install(arguments, constraints=constraints, requester=REQUESTER)


def _slicerPackaging() -> ModuleType | None:
    try:
        return importlib.import_module("slicer.packaging")
    except ImportError:
        return None


def _reason(log: Path, error: Exception) -> str:
    """The last things pip complained of, or the exception when it could not even start."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    told = re.findall(r"\b(?:ERROR|WARNING): (\S.*)", text)
    return " / ".join(list(dict.fromkeys(told))[-3:]) or f"{type(error).__name__}: {error}"


def _installTorch() -> None:
    """PyTorch by its extension, which finds the build that fits the graphics card and its driver."""
    try:
        logic = importlib.import_module(TORCH_MODULE).PyTorchUtilsLogic()
        installed = logic.installTorch(askConfirmation=True, torchVersionRequirement=TORCH_REQUIREMENT)
    except (subprocess.CalledProcessError, ImportError, RuntimeError, OSError, ValueError) as error:
        logging.getLogger(__name__).exception("PyTorch")
        raise ProstateXferError(
            _("PyTorch could not be installed ({reason}): open the module PyTorch and install it there.").format(
                reason=f"{type(error).__name__}: {error}"
            )
        ) from error
    if installed is None:
        raise ProstateXferError(_("PyTorch was not installed, as you chose; ProstateXfer needs it to run."))


def _isImportable(module: str) -> bool:
    # find_spec raises on a loaded module without a spec, as an application may make one.
    return sys.modules.get(module) is not None or importlib.util.find_spec(module) is not None


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _listed(names) -> str:
    return ", ".join(names)


def _pythonProgram() -> str:
    return sys.executable or "PythonSlicer"  # '' within Slicer 5.8
