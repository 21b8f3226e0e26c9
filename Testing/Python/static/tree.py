# SPDX-License-Identifier: Apache-2.0
"""Where the sources lie, and small readers of them that the static tests share."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
MODULE = ROOT / "ProstateXfer"
PACKAGE = MODULE / "ProstateXferSlicer"
UI_FILE = MODULE / "Resources" / "UI" / "ProstateXfer.ui"
PARAMETERS = PACKAGE / "scene" / "parameters.py"


def files_below(folder: Path) -> list[Path]:
    """The files of ours below a folder: no bytecode and nothing hidden."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".pyc")
    return [path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def sources() -> list[Path]:
    """The Python files of the module."""
    return [path for path in files_below(MODULE) if path.suffix == ".py"]


def named(path: Path) -> str:
    """A path as tests show it."""
    return path.relative_to(ROOT).as_posix()


def tree_of(path: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def strings_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every string constant with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def ignored_by_git(paths: list[Path]) -> set[Path]:
    """Those of `paths` that git ignores; none where this is no checkout."""
    if not (ROOT / ".git").exists() or not paths:
        return set()
    asked = subprocess.run(
        ["git", "check-ignore", "--stdin", "-z"],
        cwd=ROOT,
        input="\0".join(map(str, paths)),
        capture_output=True,
        text=True,
        check=False,
    )
    return {Path(name) for name in asked.stdout.split("\0") if name}
