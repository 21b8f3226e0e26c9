# SPDX-License-Identifier: Apache-2.0
"""Real children for the tests of `ProstateXferSlicer.work`, and the two kinds of process that run them."""

import importlib.util
import os
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[3]
# Of the tree under test: the checkout, or an installed one.
MODULE_FOLDER = Path(os.environ.get("PROSTATEXFER_MODULE_DIR", ROOT / "ProstateXfer"))
for folder in (MODULE_FOLDER, ROOT, Path(__file__).parent):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))

from work_children import TIMEOUT_S, waitUntil  # noqa: E402

from ProstateXferSlicer.work.process import SubprocessProcess  # noqa: E402


@pytest.fixture(scope="session")
def qt_application():
    """An application without a display; other rooms' tests may have made one."""
    pytest.importorskip("PySide6.QtWidgets", reason="PySide6 is not installed", exc_type=ImportError)
    from PySide6 import QtWidgets

    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    return QtWidgets.QApplication.instance() or QtWidgets.QApplication([])


@pytest.fixture(scope="session")
def qt_process_module(qt_application):
    """`work/qt_process.py` on PySide6, under a name of its own: Slicer's `qt` is there only while it is loaded."""
    from PySide6 import QtCore

    qt = ModuleType("qt")
    vars(qt).update({name: getattr(QtCore, name) for name in ("QProcess", "QProcessEnvironment", "QTimer")})
    path = MODULE_FOLDER / "ProstateXferSlicer" / "work" / "qt_process.py"
    spec = importlib.util.spec_from_file_location("qt_process_on_pyside", path)
    module = importlib.util.module_from_spec(spec)
    former = sys.modules.get("qt")
    sys.modules["qt"] = qt
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules["qt"]
        if former is not None:
            sys.modules["qt"] = former
    return module


@pytest.fixture
def make_kind(request):
    """make_kind(name): a kind of process.

    `make()` makes one, `run(process)` brings it to its end, `pump()`, where it has one, gives all of them a moment.
    """

    def make_kind(name):
        if name == "subprocess":
            return SimpleNamespace(make=SubprocessProcess, run=_runWaiting, pump=None, name=name)
        make = request.getfixturevalue("qt_process_module").QtProcess
        if name == "qt waiting":
            return SimpleNamespace(make=make, run=_runWaiting, pump=None, name=name)
        pump = request.getfixturevalue("qt_application").processEvents
        return SimpleNamespace(make=make, run=lambda process: _runOnEvents(process, pump), pump=pump, name=name)

    return make_kind


@pytest.fixture(params=["subprocess", "qt waiting", "qt event loop"])
def kind(request, make_kind):
    """Each kind of process in turn."""
    return make_kind(request.param)


def _runOnEvents(process, pump):
    waitUntil(lambda: not process.isRunning(), pump=pump)


def _runWaiting(process):
    deadline = time.monotonic() + TIMEOUT_S

    def pump():
        assert time.monotonic() < deadline, "the process did not end in time"

    process.wait(pump)


@pytest.fixture
def advance(kind):
    """advance(process, condition): give the process time until something has happened."""

    class ReachedError(Exception):
        pass

    def advance(process, condition):
        if kind.pump is not None:
            waitUntil(condition, pump=kind.pump)
            return
        deadline = time.monotonic() + TIMEOUT_S

        def pump():
            assert time.monotonic() < deadline, "it did not happen in time"
            if condition():
                raise ReachedError

        with pytest.raises(ReachedError):
            process.wait(pump)

    return advance


@pytest.fixture
def odd_folder(tmp_path):
    """A folder whose name has a blank and letters beyond ASCII."""
    folder = tmp_path / "Prüfung von Öl 前立腺"
    folder.mkdir()
    return folder
