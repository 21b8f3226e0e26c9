# SPDX-License-Identifier: Apache-2.0
"""The reading of the module's sources finds each fault it is there for, and nothing else."""

import ast

import pytest

from static.source_lint import LICENCE, import_faults, newer_faults, shape_faults


@pytest.mark.parametrize(
    ("place", "code"),
    [
        ("ProstateXfer.py", "import torch"),
        ("ProstateXfer.py", "try:\n    import scipy\nexcept ImportError:\n    pass"),
        ("panel/sections.py", "from monai.networks import nets"),
        ("panel/sections.py", "from . import messages"),
        ("panel/sections.py", "import imp"),
        ("panel/sections.py", "def f():\n    from distutils.version import LooseVersion"),
        ("work/python.py", "import cgi"),
        ("scene/volumes.py", "import qt"),
        ("scene/volumes.py", "def f():\n    import ctk"),
        ("scene/volumes.py", "from ProstateXferSlicer.work.job import Job"),
        ("scene/volumes.py", "from ProstateXferSlicer import panel"),
        ("scene/volumes.py", "from ProstateXferSlicer.study_run import StudyRun"),
        ("work/job.py", "import slicer"),
        ("work/job.py", "def f():\n    import slicer.util"),
        ("work/job.py", "import vtk"),
        ("work/process.py", "import qt"),
        ("work/qt_process.py", "import ctk"),
        ("work/qt_process.py", "from ProstateXferSlicer.scene.volumes import imageOfVolume"),
        ("study_run.py", "from ProstateXferSlicer.panel.sections import Sections"),
        ("scene/volumes.py", "class A:\n    import pydicom"),
    ],
)
def test_a_wrong_import_is_found(place, code):
    assert len(import_faults(place, ast.parse(code))) == 1


@pytest.mark.parametrize(
    ("place", "code"),
    [
        ("ProstateXfer.py", "import logging\nimport slicer\nimport vtk, qt, ctk\nfrom slicer.util import loadUI"),
        ("ProstateXfer.py", "def f():\n    from ProstateXferSlicer.panel.sections import Sections"),
        ("ProstateXfer.py", "def f():\n    import SampleData"),
        ("panel/sections.py", "from ProstateXferSlicer.study_run import StudyRun\nimport qt"),
        ("study_run.py", "from ProstateXferSlicer.scene.volumes import imageOfVolume\nimport slicer"),
        ("study_run.py", "from ProstateXferSlicer.temporary import temporaryPath"),
        ("scene/volumes.py", "import numpy as np\nimport SimpleITK as sitk\nimport ProstateXferLib.errors"),
        ("work/qt_process.py", "import qt\nfrom ProstateXferSlicer.work.process import Process"),
        ("sample_data.py", "def f():\n    import torch"),
    ],
)
def test_a_right_import_passes(place, code):
    assert import_faults(place, ast.parse(code)) == []


@pytest.mark.parametrize(
    "code",
    [
        "column = table.GetColumnIndex('x')",
        "from slicer.packaging import pip_ensure",
        "import slicer.packaging",
        "slicer.packaging.pip_ensure(names)",
        "from vtkmodules.util.data_model import ImageData",
        "if ready:\n    table.GetColumnIndex('x')",
        "try:\n    pass\nfinally:\n    table.GetColumnIndex('x')",
        "try:\n    pass\nexcept AttributeError:\n    table.GetColumnIndex('x')",
        "slicer.util.launchConsoleProcess(words, blocking=False)",
    ],
)
def test_a_name_of_a_newer_slicer_is_found(code):
    assert newer_faults(ast.parse(code)) != []


@pytest.mark.parametrize(
    "code",
    [
        "if hasattr(table, 'GetColumnIndex'):\n    table.GetColumnIndex('x')",
        "index = table.GetColumnIndex('x') if hasattr(table, 'GetColumnIndex') else search(table)",
        "try:\n    from slicer.packaging import pip_ensure\nexcept ImportError:\n    pip_ensure = None",
        "if hasattr(slicer, 'packaging'):\n    slicer.packaging.pip_ensure(names)",
        "slicer.util.launchConsoleProcess(words)",
        "import packaging",
    ],
)
def test_a_guarded_name_passes(code):
    assert newer_faults(ast.parse(code)) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import os\n", "line 1"),
        (f"{LICENCE}\n" + "x = 1\n" * 400, "401 lines"),
        (f"{LICENCE}\ndef f():\n" + "    x = 1\n" * 51, "f has 51 lines"),
    ],
)
def test_a_wrong_shape_is_found(text, told):
    faults = shape_faults(text)
    assert len(faults) == 1
    assert told in faults[0]


def test_a_right_shape_passes():
    docstring = '    """' + "word\n" * 60 + '"""\n'
    assert shape_faults(f"{LICENCE}\ndef f():\n{docstring}" + "    x = 1\n" * 50) == []
