# SPDX-License-Identifier: Apache-2.0
"""What a source imports, read off its syntax tree."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Import:
    """One imported module: where it stands, whether in no function, and whether type checkers alone read it."""

    module: str
    line: int
    at_file_scope: bool
    for_type_checkers: bool

    @property
    def is_loaded(self) -> bool:
        """Whether it is loaded together with the file."""
        return self.at_file_scope and not self.for_type_checkers


def imports_of(tree: ast.Module) -> Iterator[Import]:
    """Every import of a file, those in functions included."""
    in_functions = _inside(tree, lambda node: isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    for_type_checkers = _inside(tree, _is_for_type_checkers)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            stem = "." * node.level + (node.module or "")
            # `from ProstateXferLib import images` names a room, `from ProstateXferLib.images import io` a module of it.
            names = [f"{stem}.{alias.name}" for alias in node.names] if "." not in stem else [stem]
        else:
            continue
        for name in names:
            yield Import(name, node.lineno, id(node) not in in_functions, id(node) in for_type_checkers)


def _inside(tree: ast.Module, is_outer) -> set[int]:
    """Ids of the nodes within those of which `is_outer` is true."""
    return {id(node) for outer in ast.walk(tree) if is_outer(outer) for node in ast.walk(outer)}


def _is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
