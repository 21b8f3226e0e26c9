# SPDX-License-Identifier: Apache-2.0
"""What Slicer does not forgive in a .ui file, read off the XML: it only logs an unknown class or a missing connection.

Each function takes a parsed `UiFile` and returns its findings as sentences; Qt is not needed.
"""

import xml.etree.ElementTree as ET
from dataclasses import dataclass, field

# Classes that Slicer 5.8 to 5.12 can build from a .ui file. One that is not here may be in Slicer: look, then add it.
QT_CONTAINERS = {"QWidget", "QFrame", "QGroupBox", "QStackedWidget", "QTabWidget", "QScrollArea", "QSplitter"}
QT_WITH_TEXT = {"QLabel", "QPushButton", "QToolButton", "QCheckBox", "QRadioButton"}
QT_OTHERS = {
    *("QComboBox", "QLineEdit", "QTextEdit", "QPlainTextEdit", "QTextBrowser", "QSpinBox", "QDoubleSpinBox"),
    *("QSlider", "QProgressBar", "QTableWidget", "QTreeWidget", "QListWidget", "QTableView", "QTreeView", "QListView"),
}
CUSTOM_CONTAINERS = {"qMRMLWidget", "ctkCollapsibleButton", "ctkCollapsibleGroupBox", "ctkExpandableWidget"}
CUSTOM_WITH_TEXT = {"ctkCollapsibleButton", "ctkCheckBox", "ctkPushButton", "ctkCheckablePushButton"}
MRML = {
    *("qMRMLWidget", "qMRMLNodeComboBox", "qMRMLCheckableNodeComboBox", "qMRMLSubjectHierarchyComboBox"),
    *("qMRMLSubjectHierarchyTreeView", "qMRMLSegmentsTableView", "qMRMLSegmentSelectorWidget", "qMRMLTableView"),
    *("qMRMLSegmentationShow3DButton", "qMRMLSliderWidget", "qMRMLSpinBox", "qMRMLRangeWidget", "qMRMLPlotView"),
    *("qMRMLColorTableComboBox", "qMRMLVolumeThresholdWidget", "qMRMLWindowLevelWidget", "qSlicerSimpleMarkupsWidget"),
}
CUSTOM = CUSTOM_CONTAINERS | CUSTOM_WITH_TEXT | MRML
CUSTOM |= {"ctkPathLineEdit", "ctkDirectoryButton", "ctkSliderWidget", "ctkDoubleSlider", "ctkDoubleSpinBox"}
CUSTOM |= {"ctkRangeWidget", "ctkComboBox", "ctkCheckableComboBox", "ctkColorPickerButton", "ctkFittedTextBrowser"}
QT = QT_CONTAINERS | QT_WITH_TEXT | QT_OTHERS
# Boxes have a title instead of a text.
WITH_TITLE = {"QGroupBox", "ctkCollapsibleGroupBox"}
NOT_INTERACTIVE = QT_CONTAINERS | {"QLabel", "QProgressBar", "qMRMLWidget", "ctkExpandableWidget"}

SCENE_SIGNAL, SCENE_SLOT = "mrmlSceneChanged(vtkMRMLScene*)", "setMRMLScene(vtkMRMLScene*)"

# Widget class -> kinds of field that parameterNodeWrapper connects it with (Slicer 5.8 to 5.12); by exact class.
_NUMBER = {"int", "float", "int in a range", "float in a range"}
_CONNECTORS = (
    ("QCheckBox ctkCheckBox QPushButton ctkCheckablePushButton", {"bool"}),
    ("QSlider", {"int in a range"}),
    ("QSpinBox", {"int", "int in a range"}),
    ("ctkSliderWidget qMRMLSliderWidget", {"int in a range", "float in a range"}),
    ("QDoubleSpinBox ctkDoubleSpinBox ctkDoubleSlider qMRMLSpinBox", _NUMBER),
    ("QComboBox ctkComboBox", {"choice", "enum"}),
    ("QLineEdit QTextEdit QLabel", {"str", "choice"}),
    ("ctkPathLineEdit ctkDirectoryButton", {"path"}),
    ("qMRMLNodeComboBox", {"node"}),
)
CONNECTORS = {widget: kinds for widgets, kinds in _CONNECTORS for widget in widgets.split()}


@dataclass(frozen=True)
class Widget:
    """One widget: its class, its name, and its properties as text (a list's items separated by blanks)."""

    kind: str
    name: str
    properties: dict[str, str]


@dataclass
class UiFile:
    """A .ui file as the checks below need it."""

    root: Widget
    widgets: list[Widget] = field(default_factory=list)
    custom: dict[str, ET.Element] = field(default_factory=dict)
    connections: set[tuple[str, str, str, str]] = field(default_factory=set)

    @property
    def kinds(self) -> dict[str, str]:
        """Class of each widget by its name."""
        return {widget.name: widget.kind for widget in self.widgets}


def read_ui(text: str) -> UiFile:
    """Parse a .ui file."""
    document = ET.fromstring(text)
    elements = list(document.iter("widget"))
    widgets = [Widget(element.get("class"), element.get("name"), _properties(element)) for element in elements]
    custom = {element.findtext("class", ""): element for element in document.iter("customwidget")}
    parts = ("sender", "signal", "receiver", "slot")
    connections = {
        tuple(element.findtext(part, "").strip() for part in parts) for element in document.iter("connection")
    }
    return UiFile(widgets[0], widgets, custom, connections)


def _properties(element: ET.Element) -> dict[str, str]:
    texts = {}
    for found in element.findall("property"):
        texts[found.get("name")] = " ".join(part.strip() for part in found.itertext() if part.strip())
    return texts


def class_faults(ui: UiFile) -> list[str]:
    """The root, classes that Slicer does not know, and custom classes that are not declared as they must be."""
    faults = [] if ui.root.kind == "qMRMLWidget" else [f"the root is a {ui.root.kind}, not a qMRMLWidget"]
    used = {widget.kind for widget in ui.widgets}
    faults += [f"{kind} is not known to be in Slicer 5.8 to 5.12" for kind in sorted(used - QT - CUSTOM)]
    for kind in sorted(used - QT):
        element = ui.custom.get(kind)
        if element is None:
            faults.append(f"{kind} is not declared in <customwidgets>")
            continue
        if element.findtext("header") != f"{kind}.h":
            faults.append(f"{kind}: the header in <customwidgets> is not {kind}.h")
        if element.findtext("extends") not in QT:
            faults.append(f"{kind}: <extends> in <customwidgets> names no widget of Qt")
        if (element.findtext("container") == "1") != (kind in CUSTOM_CONTAINERS):
            faults.append(f"{kind}: <container> is wrong in <customwidgets>")
    faults += [f"{kind} is declared in <customwidgets> and not used" for kind in sorted(ui.custom.keys() - used)]
    names = [widget.name for widget in ui.widgets]
    return faults + [f"two widgets have the name {name}" for name in sorted(set(names)) if names.count(name) > 1]


def connection_faults(ui: UiFile) -> list[str]:
    """Widgets that would not hear of the scene, and connections from or to nowhere."""
    faults = []
    for widget in ui.widgets[1:]:
        wanted = (ui.root.name, SCENE_SIGNAL, widget.name, SCENE_SLOT)
        if widget.kind in MRML and wanted not in ui.connections:
            faults.append(f"{widget.name} is not connected: {SCENE_SIGNAL} of {ui.root.name} to its {SCENE_SLOT}")
    for sender, _, receiver, _ in sorted(ui.connections):
        faults += [f"a connection names {name}, no widget" for name in (sender, receiver) if name not in ui.kinds]
    return faults


def text_faults(ui: UiFile) -> list[str]:
    """Widgets without the words that tell a user what they are."""
    faults = []
    for widget in ui.widgets[1:]:
        needed = []
        if widget.kind in QT_WITH_TEXT | CUSTOM_WITH_TEXT:
            needed.append("text")
        if widget.kind in WITH_TITLE:
            needed.append("title")
        if widget.kind not in NOT_INTERACTIVE:
            needed.append("toolTip")
        faults += [f"{widget.name} has no {name}" for name in needed if not widget.properties.get(name)]
        buddy = widget.properties.get("buddy")
        if buddy and buddy not in ui.kinds:
            faults.append(f"{widget.name} is the label of {buddy}, no widget")
    return faults


def parameter_faults(ui: UiFile, fields: dict[str, str]) -> list[str]:
    """SlicerParameterName that names no field, or one whose kind (see parameter_fields) the widget cannot show."""
    faults = []
    for widget in ui.widgets:
        name = widget.properties.get("SlicerParameterName")
        if name is None:
            continue
        if name not in fields:
            faults.append(f"{widget.name}: there is no parameter {name}")
        elif fields[name].partition(":")[0] not in CONNECTORS.get(widget.kind, set()):
            faults.append(f"{widget.name}: a {widget.kind} cannot show the parameter {name} ({fields[name]})")
        elif widget.kind == "QPushButton" and widget.properties.get("checkable") != "true":
            faults.append(f"{widget.name}: a button that is not checkable cannot show the parameter {name}")
        else:
            faults += node_type_faults(widget, name, fields[name])
    return faults


def node_type_faults(widget: Widget, name: str, kind: str) -> list[str]:
    """A node selector whose types are not the parameter's (`kind` is "node:vtkMRML…")."""
    wanted, offered = kind.partition(":")[2], widget.properties.get("nodeTypes", "").split()
    if wanted and widget.kind == "qMRMLNodeComboBox" and offered != [wanted]:
        return [f"{widget.name} offers {' '.join(offered) or 'nothing'}, the parameter {name} takes {wanted}"]
    return []
