# SPDX-License-Identifier: Apache-2.0
"""What Slicer does not forgive in a module's sources, and the directions of docs/slicer-module.md, read off the source.

Each function returns its findings as sentences with a line number; nothing is imported or run.
"""

import ast
import sys
from collections.abc import Iterator

from static.imports import imports_of

LONGEST_FILE = 400
LONGEST_FUNCTION = 50
LICENCE = "# SPDX-License-Identifier: Apache-2.0"

# One import that fails, and the whole module is missing from Slicer: these are in every Slicer, or ours.
AT_FILE_SCOPE = {"slicer", "vtk", "qt", "ctk", "numpy", "SimpleITK", "ProstateXferLib", "ProstateXferSlicer"}
# Gone from Python 3.12 (Slicer 5.10), or not in it.
GONE = {"imp", "cgi", "cgitb", "distutils", "asyncore", "asynchat", "smtpd", "pipes", "pkg_resources"}
QT = {"qt", "ctk"}
APPLICATION = QT | {"slicer", "vtk", "sitkUtils", "mrml"}
# Part of ProstateXferSlicer -> top-level packages it must not know, and other parts that it may.
ROOMS = {
    "scene": (QT, {"scene", "temporary"}),
    "work": (APPLICATION | {"numpy", "SimpleITK"}, {"work"}),
    "panel": (set(), {"scene", "work", "panel", "*"}),
    "*": (set(), {"scene", "work", "*"}),  # study_run.py and the other files beside the rooms
}
# The one file of work/ that knows Qt.
ALLOWED_IN = {"work/qt_process.py": {"qt"}}

# Newer than VTK 9.1 or Slicer 5.8, which the module must run in, too: behind hasattr, or in a try.
NEWER_METHODS = {"GetColumnIndex": "VTK 9.2"}
NEWER_MODULES = {
    "slicer.packaging": "Slicer 5.12",
    "vtkmodules.util.data_model": "VTK 9.4",
    "vtkmodules.util.execution_model": "VTK 9.4",
}
NEWER_KEYWORDS = {("launchConsoleProcess", "blocking"): "Slicer 5.12"}


def import_faults(place: str, tree: ast.Module) -> list[str]:
    """What a file must not import; `place` is its path below ProstateXferSlicer, or "ProstateXfer.py"."""
    room = place.partition("/")[0] if "/" in place else "*"
    forbidden, known = ROOMS[room] if room in ROOMS else (set(), set(ROOMS))
    if place == "ProstateXfer.py":
        forbidden, known = set(), set(ROOMS)
    forbidden = forbidden - ALLOWED_IN.get(place, set())
    faults = []
    for found in imports_of(tree):
        top, _, rest = found.module.partition(".")
        target = rest.partition(".")[0]
        if not top:
            faults.append(f"line {found.line}: relative import, write the whole name")
        elif top in GONE:
            faults.append(f"line {found.line}: {top} is not in Python 3.12")
        elif top in forbidden:
            faults.append(f"line {found.line}: {room} must not know {top}")
        elif top == "ProstateXferSlicer" and not {target, target if target in ROOMS else "*"} & known:
            faults.append(f"line {found.line}: {room} must not know {found.module}")
        elif found.at_file_scope and top not in AT_FILE_SCOPE and top not in sys.stdlib_module_names:
            faults.append(f"line {found.line}: {top} at file scope, import it where it is used")
    return faults


def _guards_of(tree: ast.Module) -> dict[int, str]:
    """Source text that guards each node: the tests of the ifs around it, "try" within a try with handlers."""
    guards: dict[int, str] = {}

    def visit(node: ast.AST, guard: str) -> None:
        guards[id(node)] = guard
        for name, value in ast.iter_fields(node):
            inner = guard
            if isinstance(node, ast.If | ast.IfExp) and name != "test":
                inner += ast.unparse(node.test)
            elif isinstance(node, ast.Try) and name == "body" and node.handlers:
                inner += " try"
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    visit(child, inner)

    visit(tree, "")
    return guards


def _newer_names(node: ast.AST) -> Iterator[tuple[str, str]]:
    """What a node uses that not every supported Slicer has, each with the version that brought it."""
    modules = []
    if isinstance(node, ast.Attribute):
        if node.attr in NEWER_METHODS:
            yield node.attr, NEWER_METHODS[node.attr]
        modules = [ast.unparse(node)]
    elif isinstance(node, ast.ImportFrom) and node.module:
        modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    elif isinstance(node, ast.Import):
        modules = [alias.name for alias in node.names]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        for keyword in node.keywords:
            if (node.func.attr, keyword.arg) in NEWER_KEYWORDS:
                yield node.func.attr, NEWER_KEYWORDS[node.func.attr, keyword.arg]
    for module in modules:
        if module in NEWER_MODULES:
            yield module.rpartition(".")[2], NEWER_MODULES[module]


def newer_faults(tree: ast.Module) -> list[str]:
    """Names that not every supported Slicer has, used without asking first."""
    guards = _guards_of(tree)
    return [
        f"line {node.lineno}: {name} ({version}) needs a guard"
        for node in ast.walk(tree)
        for name, version in _newer_names(node)
        if " try" not in guards[id(node)] and name not in guards[id(node)]
    ]


def shape_faults(text: str) -> list[str]:
    """Licence line, length of the file and of its functions."""
    lines = text.splitlines()
    faults = [] if lines[:1] == [LICENCE] else [f"line 1: '{LICENCE}' is missing"]
    if len(lines) > LONGEST_FILE:
        faults.append(f"line {LONGEST_FILE}: the file has {len(lines)} lines, more than {LONGEST_FILE}")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body  # a long docstring is no long function
            length = (node.end_lineno - body[0].lineno + 1) if body else 0
            if length > LONGEST_FUNCTION:
                faults.append(f"line {node.lineno}: {node.name} has {length} lines, more than {LONGEST_FUNCTION}")
    return faults
