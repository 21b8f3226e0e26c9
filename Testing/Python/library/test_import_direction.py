# SPDX-License-Identifier: Apache-2.0
"""The house rules that a reader of docs/architecture.md relies on, read off the source itself."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from static.imports import imports_of
from static.tree import tree_of

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = "ProstateXferLib"
SOURCES = sorted((ROOT / PACKAGE).rglob("*.py"))

# Room -> rooms it may import; every room may import itself and BASE.
MAY_IMPORT = {
    "images": set(),
    "networks": {"images"},
    "checkpoints": {"images", "networks"},
    "pipelines": {"images", "networks", "checkpoints"},
    "metrics": {"images"},
    "reports": {"images", "networks", "checkpoints", "pipelines", "metrics"},
    "training": {"images", "networks", "checkpoints", "pipelines", "metrics"},
    "cohort": {"images", "networks", "checkpoints", "pipelines", "metrics", "reports"},
    "ensembles": {"images", "checkpoints", "metrics"},
    "evaluation": {"images", "checkpoints", "pipelines", "metrics", "reports"},
    "studies": {
        *(
            "images",
            "networks",
            "checkpoints",
            "pipelines",
            "metrics",
            "reports",
            "evaluation",
            "ensembles",
            "training",
        ),
    },
}
MAY_IMPORT["cli"] = set(MAY_IMPORT)
# Modules beside the rooms, on which every room may stand; they know no room and no third-party package at file scope.
BASE = {"csv_rows", "errors", "files", "progress", "resources_dir", "version"}
# The doors: they lead to every room, the first by lazy names, the second to the command line.
DOORS = {"__init__", "__main__"}

LIGHT = {"numpy", "SimpleITK"}
AT_FILE_SCOPE = {
    **dict.fromkeys(
        ("images", "metrics", "reports", "cli", "checkpoints", "cohort", "evaluation", "ensembles", "studies"), LIGHT
    ),
    **dict.fromkeys(("networks", "pipelines", "training"), LIGHT | {"torch"}),
}
APPLICATION = {"slicer", "qt", "vtk", "ctk", "PythonQt"}
LONGEST_FILE = 400


def room_of(path: Path) -> str:
    """The room a file belongs to; a file beside the rooms is its own."""
    return path.relative_to(ROOT / PACKAGE).parts[0].removesuffix(".py")


def broken_imports(room: str, tree: ast.Module) -> list[str]:
    """What a file of `room` imports that it must not, as sentences."""
    broken = []
    for found in imports_of(tree):
        top, _, rest = found.module.partition(".")
        if not top:
            broken.append(f"line {found.line}: relative import, write the whole name")
        elif top in APPLICATION:
            broken.append(f"line {found.line}: {top} belongs to the Slicer module")
        elif top == PACKAGE:
            target = rest.partition(".")[0]
            if room not in DOORS and target not in BASE | MAY_IMPORT.get(room, set()) | {room}:
                broken.append(f"line {found.line}: {room} must not know {found.module}")
        elif top not in sys.stdlib_module_names and found.is_loaded and top not in AT_FILE_SCOPE.get(room, set()):
            broken.append(f"line {found.line}: {top} at file scope, import it where it is used")
    return broken


def named(path: Path) -> str:
    return str(path.relative_to(ROOT / PACKAGE))


def test_there_is_something_to_read():
    assert {room_of(path) for path in SOURCES} >= {"images", "networks", "cli"} | BASE | DOORS


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_imports_go_in_one_direction(path):
    room = room_of(path)
    assert room in MAY_IMPORT.keys() | BASE | DOORS, f"new room '{room}': say in docs/architecture.md what it stands on"
    assert broken_imports(room, tree_of(path)) == []


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_a_file_names_its_licence_and_holds_one_idea(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[:1] == ["# SPDX-License-Identifier: Apache-2.0"]
    assert len(lines) <= LONGEST_FILE


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_the_library_neither_asserts_nor_prints(path):
    nodes = list(ast.walk(tree_of(path)))
    asserted = [node.lineno for node in nodes if isinstance(node, ast.Assert)]
    printed = [
        node.lineno
        for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert asserted == [], "a user's mistake is a ProstateXferError; assert vanishes under python -O"
    assert printed == [] or room_of(path) == "cli", "report through progress or logging"


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("images", "from ProstateXferLib.networks.dinov3 import DINOv3"),
        ("images", "from ProstateXferLib import networks"),
        ("images", "def f():\n    import ProstateXferLib.training"),
        ("metrics", "from ProstateXferLib.pipelines.segmenter import Segmenter"),
        ("pipelines", "from ProstateXferLib.training.engine.fit import fit"),
        ("networks", "from ProstateXferLib import load_checkpoint"),
        ("reports", "import matplotlib.pyplot"),
        ("checkpoints", "import torch"),
        ("training", "import monai"),
        ("cohort", "import torch"),
        ("cohort", "from ProstateXferLib.cli.main import main"),
        ("reports", "from ProstateXferLib.cohort.study import run_study"),
        ("errors", "import numpy"),
        ("errors", "from ProstateXferLib.images.grid import Grid"),
        ("pipelines", "def f():\n    import slicer"),
        ("cli", "from .main import main"),
    ],
)
def test_the_reading_finds_what_it_must(room, line):
    assert len(broken_imports(room, ast.parse(line))) == 1


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("networks", "import torch.nn.functional as F\nfrom ProstateXferLib.images.grid import Grid"),
        ("reports", "def f():\n    import matplotlib.pyplot"),
        ("images", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"),
        ("cli", "def f():\n    from ProstateXferLib.training.engine.fit import fit"),
        ("images", "from ProstateXferLib.errors import ProstateXferError"),
    ],
)
def test_the_reading_lets_pass_what_it_must(room, line):
    assert broken_imports(room, ast.parse(line)) == []


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a clean interpreter holds after running `code`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


THIRD_PARTY = {"torch", "scipy", "monai", "matplotlib", "SimpleITK", "numpy", "safetensors", "yaml", "pydicom"}


@pytest.mark.parametrize("module", [PACKAGE, f"{PACKAGE}.cli.main", f"{PACKAGE}.resources_dir"])
def test_importing_the_package_loads_no_third_party_package(module):
    assert loaded_by(f"import {module}") & THIRD_PARTY == set()


def test_reading_an_image_needs_no_pytorch():
    assert loaded_by(f"from {PACKAGE} import read_image, write_image") & {"torch", "monai", "matplotlib"} == set()


def test_every_public_name_is_there_and_told_by_dir():
    import ProstateXferLib as px

    for name in px.__all__:
        assert getattr(px, name) is not None
    assert set(px.__all__) <= set(dir(px))


def test_an_unknown_name_is_an_attribute_error():
    import ProstateXferLib as px

    with pytest.raises(AttributeError, match="no attribute 'unheard_of'"):
        px.unheard_of  # noqa: B018
