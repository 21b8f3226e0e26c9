# SPDX-License-Identifier: Apache-2.0
"""Where `slicer.ScriptedLoadableModule`, `slicer.parameterNodeWrapper`, `slicer.i18n` and `slicer.util` come from.

By default from the stand-ins of this package, and `util` from slicer-core. PROSTATEXFER_SLICER_SOURCE=<a checkout of
Slicer>/Base/Python/slicer takes Slicer's own files of that version instead; they are not part of this repository.
"""

import importlib.util
import os
import re
import sys
from pathlib import Path
from types import ModuleType

import slicer

from slicer_host.dialogs import Message, dialogs

_SOURCE = os.environ.get("PROSTATEXFER_SLICER_SOURCE")


def version() -> tuple[int, int]:
    """Of the Slicer that is imitated: by the folder of the sources (`.../v5.8.1/Base/Python/slicer`), else 5.12."""
    found = re.search(r"v?(\d+)\.(\d+)[^/]*/Base/Python/slicer", _SOURCE or "")
    return (int(found[1]), int(found[2])) if found else (5, 12)


def install() -> None:
    """Make the modules importable as parts of `slicer`; needs `qt`, `ctk` and `slicer.app`."""
    if _SOURCE:
        source = Path(_SOURCE)
        _load("util", source / "util.py")
        slicer.__path__.append(str(source))
    else:
        from slicer_host import parameters, scripted_module, translation

        _register("i18n", translation)
        _register("ScriptedLoadableModule", scripted_module)
        _register("parameterNodeWrapper", parameters)
        _register("packaging", _packaging())
    _answerByHost()


def _register(name: str, module: ModuleType) -> None:
    sys.modules[f"slicer.{name}"] = module
    setattr(slicer, name, module)


def _load(name: str, path: Path) -> None:
    spec = importlib.util.spec_from_file_location(f"slicer.{name}", path)
    module = importlib.util.module_from_spec(spec)
    _register(name, module)
    spec.loader.exec_module(module)


def _packaging() -> ModuleType:
    """`slicer.packaging` of Slicer 5.11 and later, where nothing is installed."""
    module = ModuleType("slicer.packaging")
    module.pip_install = module.pip_ensure = _pipInstall
    module.pip_check = lambda _requirement: True
    return module


def _pipInstall(requirements, *_, **__) -> None:
    dialogs.installed += [requirements] if isinstance(requirements, str) else list(requirements)


_KINDS = {"infoDisplay": "info", "warningDisplay": "warning", "errorDisplay": "error"}
_QUESTIONS = ("confirmOkCancelDisplay", "confirmYesNoDisplay", "confirmRetryCloseDisplay")


def _answerByHost() -> None:
    """Boxes are written down instead of shown; nothing is installed."""

    def recorded(kind: str, answers: bool):
        def display(text, *_, **options):
            dialogs.messages.append(Message(kind, text, options))
            return dialogs.confirm if answers else None

        return display

    for name, kind in _KINDS.items():
        setattr(slicer.util, name, recorded(kind, False))
    for name in _QUESTIONS:
        setattr(slicer.util, name, recorded("confirm", True))
    slicer.util.messageBox = recorded("box", True)
    slicer.util.pip_install = _pipInstall
