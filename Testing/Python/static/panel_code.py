# SPDX-License-Identifier: Apache-2.0
"""What the sources of the panel say about widgets and parameters, read off the syntax tree."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from static.ui_lint import UiFile, node_type_faults

# Function of panel/bindings.py -> widget class and kind of parameter that it keeps equal.
BINDINGS = {
    "nodeBinding": ("qMRMLNodeComboBox", "node"),
    "checkBinding": ("QCheckBox", "bool"),
    "choiceBinding": ("QComboBox", "str"),
    "folderBinding": ("ctkPathLineEdit", "str"),
}


def parameter_fields(tree: ast.Module) -> dict[str, str]:
    """Field of the @parameterNodeWrapper class -> kind: "bool", "str", "choice", "int in a range", "node:vtkMRML…"."""
    classes = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    enums = {name for name, node in classes.items() if any("Enum" in ast.unparse(base) for base in node.bases)}
    for node in classes.values():
        if any("parameterNodeWrapper" in ast.unparse(decorator) for decorator in node.decorator_list):
            annotated = [entry for entry in node.body if isinstance(entry, ast.AnnAssign)]
            return {entry.target.id: _kind(entry.annotation, enums) for entry in annotated}
    return {}


def _kind(annotation: ast.expr, enums: set[str]) -> str:
    text = ast.unparse(annotation)
    name = text.rpartition(".")[2]
    if text in {"str", "int", "float", "bool"}:
        return text
    if text in enums:
        return "enum"
    if name in {"Path", "PurePath"}:
        return "path"
    if re.fullmatch(r"vtkMRML\w+Node", name):
        return f"node:{name}"
    if isinstance(annotation, ast.Subscript) and text.startswith(("Annotated[", "typing.Annotated[")):
        base = _kind(annotation.slice.elts[0], enums)
        rest = " ".join(ast.unparse(entry) for entry in annotation.slice.elts[1:])
        if "Choice(" in rest:
            return "choice"
        return f"{base} in a range" if "WithinRange(" in rest or ("Minimum(" in rest and "Maximum(" in rest) else base
    return "other"


def _is_ui(node: ast.AST) -> bool:
    """Whether an expression is the namespace of widgets: `ui`, `self.ui`, `self._ui`."""
    return (isinstance(node, ast.Name) and node.id == "ui") or (
        isinstance(node, ast.Attribute) and node.attr in {"ui", "_ui"}
    )


def ui_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Each widget that the code names, with its line, as a regular expression (`getattr(ui, f"{task}Button")`)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _is_ui(node.value):
            yield node.lineno, re.escape(node.attr)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "getattr" and _is_ui(node.args[0]):
            name = node.args[1]
            if isinstance(name, ast.Constant):
                yield node.lineno, re.escape(name.value)
            elif isinstance(name, ast.JoinedStr):
                parts = (re.escape(part.value) if isinstance(part, ast.Constant) else r"\w+" for part in name.values)
                yield node.lineno, "".join(parts)


def ui_name_faults(ui: UiFile, tree: ast.AST) -> list[str]:
    """Widgets that the code names and the .ui file does not have."""
    return [
        f"line {line}: there is no widget {pattern}"
        for line, pattern in ui_names(tree)
        if not any(re.fullmatch(pattern, name) for name in ui.kinds)
    ]


@dataclass(frozen=True)
class Binding:
    """One call of a function of panel/bindings.py with its two names."""

    line: int
    function: str
    parameter: str
    widget: str


def bindings_of(tree: ast.AST) -> Iterator[Binding]:
    """The calls that name both parameter and widget."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in BINDINGS:
            parameter, widget = [*node.args, None, None][:2]
            if isinstance(parameter, ast.Constant) and isinstance(widget, ast.Attribute):
                yield Binding(node.lineno, node.func.id, parameter.value, widget.attr)


def binding_faults(ui: UiFile, fields: dict[str, str], tree: ast.AST) -> list[str]:
    """Bindings of a parameter that is none, or whose kind or widget the function is not made for."""
    widgets, faults = {widget.name: widget for widget in ui.widgets}, []
    for found in bindings_of(tree):
        kind, place = fields.get(found.parameter), f"line {found.line}: {found.function}"
        widget_class, parameter_kind = BINDINGS[found.function]
        if kind is None:
            faults.append(f"{place}: there is no parameter {found.parameter}")
        elif kind.partition(":")[0] != parameter_kind:
            faults.append(f"{place}: the parameter {found.parameter} is {kind}, not {parameter_kind}")
        elif found.widget in widgets:  # else ui_name_faults tells
            widget = widgets[found.widget]
            if widget.kind != widget_class:
                faults.append(f"{place}: {found.widget} is a {widget.kind}, not a {widget_class}")
            faults += [f"line {found.line}: {fault}" for fault in node_type_faults(widget, found.parameter, kind)]
    return faults
