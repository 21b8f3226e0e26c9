# SPDX-License-Identifier: Apache-2.0
"""What docs/slicer-module.md promises of the folder, read off its source."""

import ast
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "ProstateXfer" / "ProstateXferSlicer" / "work"
FILES = sorted(FOLDER.glob("*.py"))


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_only_the_standard_library_and_the_library_are_imported_and_qt_in_one_file(path):
    tops = {name.partition(".")[0] for name in imported(path)}
    allowed = {"ProstateXferLib", "ProstateXferSlicer"} | ({"qt"} if path.name == "qt_process.py" else set())
    assert tops - allowed <= set(sys.stdlib_module_names)
    assert {name for name in imported(path) if name.startswith("ProstateXferSlicer")} <= {
        f"ProstateXferSlicer.work.{other.stem}" for other in FILES
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_function_fits_on_a_screen(path):
    functions = [
        node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.FunctionDef)
    ]
    assert [node.name for node in functions if node.end_lineno - node.lineno >= 50] == []
