# SPDX-License-Identifier: Apache-2.0
"""Fixtures for the rooms that need Slicer; a room's conftest.py imports them by name.

`pytest_pycollect_makemodule` starts the host before a room's first test file is imported, or skips the file with the
reason why there is no host.
"""

import sys
import traceback
from collections.abc import Iterator

import numpy as np
import pytest

import slicer_host as host
from slicer_host import paths

# The pelvis is cut coarsely: some thousand voxels, with lesions that still have a few dozen.
_SPACING_XYZ, _SIZE_XYZ = (2.0, 2.0, 4.0), (64, 64, 20)


def pytest_pycollect_makemodule(module_path, parent):
    """Called by pytest for each test file of the room."""
    if (reason := host.missing()) is not None:
        return _SkippedFile.from_parent(parent, path=module_path, reason=reason)
    paths.useModule()
    host.start()
    return None


class _SkippedFile(pytest.Module):
    def __init__(self, *, reason: str, **options):
        super().__init__(**options)
        self._reason = reason

    def collect(self):
        pytest.skip(self._reason, allow_module_level=True)


@pytest.fixture(scope="session")
def slicer_host():
    """`slicer.app`, in a process where `slicer`, `qt` and `ctk` are as in the application."""
    return host.start()


@pytest.fixture
def callback_errors(monkeypatch) -> list[BaseException]:
    """What was raised in slots and observers, where nobody can catch it; clear the list to expect an error."""
    errors: list[BaseException] = []

    def keep(kind, error, trace):
        errors.append(error)
        traceback.print_exception(kind, error, trace)

    monkeypatch.setattr(sys, "excepthook", keep)
    return errors


@pytest.fixture
def scene(slicer_host, callback_errors) -> Iterator:
    """The empty scene, with nothing left of the test before; fails if a callback has raised and nobody expected it."""
    from slicer_host.reset import reset

    reset()
    yield slicer_host.mrmlScene()
    slicer_host.processEvents()
    reset()
    assert not callback_errors, f"raised in a slot or an observer: {callback_errors}"


@pytest.fixture
def dialogs(scene):
    """What the module showed and asked, and what it is answered; see dialogs.py."""
    from slicer_host.dialogs import dialogs

    return dialogs


@pytest.fixture
def no_main_window(scene, slicer_host) -> None:
    """A Slicer that was started with --no-main-window; ask for it before `module_widget`."""
    slicer_host.hasMainWindow = False


@pytest.fixture
def module_widget(scene, slicer_host) -> Iterator:
    """The panel, loaded and shown as Slicer does it: an instance of ProstateXferWidget after setup() and enter()."""
    import slicer

    module = slicer_host.moduleManager().loadScripted(paths.moduleFolder() / "ProstateXfer.py")
    slicer_host.startupCompleted.emit()
    representation = module.widgetRepresentation()
    representation.show()
    slicer_host.moduleManager().selectModule(module.name)
    yield slicer.modules.ProstateXferWidget
    slicer_host.moduleManager().unload(module.name)
    slicer_host.processEvents()


@pytest.fixture(scope="session")
def phantom_study():
    """Images and truth of a phantom on a coarse grid: a ProstateXferLib PhantomStudy."""
    from ProstateXferLib.images.grid import Grid
    from ProstateXferLib.images.phantom import make_phantom

    first_voxel = tuple(-spacing * (size - 1) / 2 for spacing, size in zip(_SPACING_XYZ, _SIZE_XYZ, strict=True))
    return make_phantom(seed=3).render(Grid(_SIZE_XYZ, _SPACING_XYZ, first_voxel))


@pytest.fixture
def t2w_volume(scene, phantom_study):
    """The phantom's T2w image as a node named "T2w"."""
    return _volume(phantom_study.t2w, "T2w")


@pytest.fixture
def ct_volume(scene, phantom_study):
    """The phantom's CT as a node named "CT"."""
    return _volume(phantom_study.ct, "CT")


@pytest.fixture
def cbct_volume(scene, phantom_study):
    """The phantom's CBCT as a node named "CBCT"."""
    return _volume(phantom_study.cbct, "CBCT")


def _volume(image, name: str):
    """A scalar volume node of an image; LPS becomes RAS."""
    import SimpleITK as sitk
    import slicer

    lps_to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    ijk_to_lps = np.eye(4)
    ijk_to_lps[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing())
    ijk_to_lps[:3, 3] = image.GetOrigin()
    node = slicer.util.addVolumeFromArray(sitk.GetArrayFromImage(image), lps_to_ras @ ijk_to_lps, name)
    node.CreateDefaultDisplayNodes()
    return node
