# SPDX-License-Identifier: Apache-2.0
"""The panel's .ui file is one that Slicer 5.8 to 5.12 can build, and says what the code expects of it."""

import pytest

from static import ui_lint
from static.panel_code import binding_faults, bindings_of, parameter_fields, ui_name_faults, ui_names
from static.tree import MODULE, PARAMETERS, UI_FILE, named, sources, tree_of


@pytest.fixture(scope="module")
def ui():
    return ui_lint.read_ui(UI_FILE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def fields():
    return parameter_fields(tree_of(PARAMETERS))


def test_there_is_something_to_read(ui, fields):
    assert len(ui.widgets) > 20
    assert {"t2w", "cbct"} <= fields.keys()
    assert sum(len(list(ui_names(tree_of(path)))) for path in sources()) > 20
    assert sum(len(list(bindings_of(tree_of(path)))) for path in sources()) > 5


def test_slicer_can_build_every_widget(ui):
    assert ui_lint.class_faults(ui) == []


def test_every_widget_that_shows_nodes_hears_of_the_scene(ui):
    assert ui_lint.connection_faults(ui) == []


def test_every_label_and_button_has_a_text_and_what_can_be_used_a_tooltip(ui):
    assert ui_lint.text_faults(ui) == []


def test_every_parameter_named_in_the_file_fits_its_widget(ui, fields):
    assert ui_lint.parameter_faults(ui, fields) == []


@pytest.mark.parametrize("path", sources(), ids=named)
def test_every_widget_that_the_code_names_is_there(path, ui):
    assert ui_name_faults(ui, tree_of(path)) == []


@pytest.mark.parametrize("path", sources(), ids=named)
def test_every_widget_that_the_code_binds_fits_its_parameter(path, ui, fields):
    assert binding_faults(ui, fields, tree_of(path)) == []


def test_every_picture_named_in_the_file_is_there():
    document = ui_lint.ET.parse(UI_FILE)
    pictures = {element.text.strip() for element in document.iter("iconset") if element.text and element.text.strip()}
    pictures |= {element.text.strip() for element in document.iter("pixmap") if element.text}
    missing = [name for name in pictures if not name.startswith(":/") and not (UI_FILE.parent / name).is_file()]
    assert missing == [], f"paths are relative to {named(UI_FILE.parent)}; {named(MODULE)} ships them"
