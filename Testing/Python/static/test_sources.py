# SPDX-License-Identifier: Apache-2.0
"""The module's sources keep what Slicer asks for and what docs/slicer-module.md promises."""

import json
import subprocess
import sys

import pytest

from static.source_lint import import_faults, imports_of, newer_faults, shape_faults
from static.tree import MODULE, PACKAGE, ROOT, files_below, named, sources, strings_of, tree_of

PICTURES = (".png", ".svg", ".ui")
HEAVY = {"torch", "scipy", "matplotlib", "monai", "safetensors", "yaml", "pydicom", "highdicom"}


def place_of(path):
    """A file as import_faults names it."""
    return path.relative_to(PACKAGE if path.is_relative_to(PACKAGE) else MODULE).as_posix()


def test_there_is_something_to_read():
    assert {"ProstateXfer.py", "study_run.py", "scene/parameters.py"} <= {place_of(path) for path in sources()}


def test_slicer_finds_one_module_in_the_folder():
    assert [path.name for path in MODULE.glob("*.py")] == ["ProstateXfer.py"], "each file here is taken for a module"


def test_the_four_classes_are_there():
    classes = {node.name for node in tree_of(MODULE / "ProstateXfer.py").body if hasattr(node, "bases")}
    assert {f"ProstateXfer{kind}" for kind in ("", "Widget", "Logic", "Test")} <= classes


@pytest.mark.parametrize("path", sources(), ids=named)
def test_imports_are_in_every_slicer_and_go_in_one_direction(path):
    assert import_faults(place_of(path), tree_of(path)) == []


@pytest.mark.parametrize("path", sources(), ids=named)
def test_what_only_a_newer_slicer_has_is_guarded(path):
    assert newer_faults(tree_of(path)) == []


@pytest.mark.parametrize("path", sources(), ids=named)
def test_a_file_names_its_licence_and_is_not_too_long(path):
    assert shape_faults(path.read_text(encoding="utf-8")) == []


def test_pictures_and_panels_named_in_the_code_are_there():
    there = {path.name for path in files_below(MODULE / "Resources")}
    named_in_code = {
        value.rpartition("/")[2]
        for path in sources()
        for _, value in strings_of(tree_of(path))
        if value.endswith(PICTURES) and " " not in value and "*" not in value
    }
    assert "ProstateXfer.ui" in named_in_code
    assert named_in_code - there == set()


def test_the_module_has_an_icon_of_its_name():
    icons = {path.name for path in files_below(MODULE / "Resources" / "Icons")}
    assert icons & {"ProstateXfer.png", "ProstateXfer.svg"}, "Slicer looks for Resources/Icons/<module>.png or .svg"


def test_what_the_module_imports_of_the_library_on_loading_is_light():
    modules = sorted(
        {
            found.module
            for path in sources()
            for found in imports_of(tree_of(path))
            if found.at_file_scope and found.module.partition(".")[0] == "ProstateXferLib"
        }
    )
    assert modules
    code = "import importlib, json, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\n"
    done = subprocess.run(
        [sys.executable, "-c", code + "print(json.dumps(list(sys.modules)))", *modules],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert {name.partition(".")[0] for name in json.loads(done.stdout)} & HEAVY == set()
