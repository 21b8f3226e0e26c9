# SPDX-License-Identifier: Apache-2.0
"""What `cmake --install` put into qt-scripted-modules is complete and is found; run by `make ctest`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from static.tree import ROOT, UI_FILE, files_below

FOLDER = os.environ.get("PROSTATEXFER_MODULE_DIR", "")

pytestmark = pytest.mark.skipif(not FOLDER, reason="no installed tree: `make ctest` makes one")


@pytest.fixture(scope="module")
def installed():
    return Path(FOLDER).resolve()


def test_the_library_is_that_of_the_installed_tree(installed):
    import ProstateXferLib

    assert Path(ProstateXferLib.__file__).resolve() == installed / "ProstateXferLib" / "__init__.py"


def test_a_child_process_takes_the_library_of_the_installed_tree(installed, tmp_path):
    code = "import ProstateXferLib; print(ProstateXferLib.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).resolve().is_relative_to(installed)


def test_the_models_are_found_beside_the_library(installed):
    from ProstateXferLib.resources_dir import resources_dir

    assert "PROSTATEXFER_RESOURCES" not in os.environ
    assert resources_dir() == installed / "Resources"
    assert (installed / "Resources" / "Models" / "registry.json").is_file()


def test_every_module_of_the_library_can_be_imported_from_there(installed):
    names = [".".join(path.relative_to(installed).with_suffix("").parts) for path in library_files(installed)]
    names = [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]
    assert len(names) > 100
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    subprocess.run([sys.executable, "-c", code, *names], check=True, timeout=300)


def library_files(folder):
    return [path for path in files_below(folder / "ProstateXferLib") if path.suffix == ".py"]


def test_slicer_finds_one_module_there(installed):
    assert [path.name for path in installed.glob("*.py")] == ["ProstateXfer.py"]


def test_the_panel_lies_where_slicer_looks_for_it(installed):
    assert (installed / "Resources" / "UI" / "ProstateXfer.ui").read_bytes() == UI_FILE.read_bytes()
    assert (installed / "Resources" / "Icons" / "ProstateXfer.png").is_file()


@pytest.mark.parametrize(
    ("source", "target"), [("ProstateXfer", "."), ("ProstateXferLib", "ProstateXferLib")], ids=["module", "library"]
)
def test_every_file_of_the_checkout_arrived_unchanged(source, target, installed):
    for path in files_below(ROOT / source):
        if path.name != "CMakeLists.txt":
            assert (installed / target / path.relative_to(ROOT / source)).read_bytes() == path.read_bytes(), path
