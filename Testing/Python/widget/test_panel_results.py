# SPDX-License-Identifier: Apache-2.0
"""Results at hand: the table moves the views, buttons show what was made, and an edit is measured voxel by voxel."""

import numpy as np
import pytest
import slicer

from ProstateXferSlicer.scene.parameters import measurementsOf
from study_child.fixtures import until

SLICES = ("Red", "Yellow", "Green")
SLICE_BUTTONS = {  # button: background, foreground
    "showInputButton": ("measuredImage", None),
    "showUncertaintyButton": ("measuredImage", "uncertaintyMap"),
    "showCtFromMrButton": ("syntheticCtFromMr", None),
    "showCtFromCbctButton": ("syntheticCtFromCbct", None),
    "showDifferenceFromMrButton": ("syntheticCtFromMr", "differenceFromMr"),
    "showDifferenceFromCbctButton": ("syntheticCtFromCbct", "differenceFromCbct"),
}


def slice_widgets():
    """The three slice views."""
    return [slicer.app.layoutManager().sliceWidget(name) for name in SLICES]


def edit(panel, segment, change):
    """Change the voxels of a segment as the Segment Editor does: `change(array)` in place."""
    node, image = panel.parameters.segmentation, panel.parameters.measuredImage
    voxels = slicer.util.arrayFromSegmentBinaryLabelmap(node, segment, image).copy()
    before = int(np.count_nonzero(voxels))
    change(voxels)
    slicer.util.updateSegmentBinaryLabelmapFromArray(voxels, node, segment, image)
    return int(np.count_nonzero(voxels)) - before


def row_of(panel, name):
    """The measurement of a structure."""
    return next(row for row in measurementsOf(panel.parameters) if row.id == name)


def test_a_click_on_a_row_brings_every_slice_view_to_its_centroid(finished_panel):
    for number, row in enumerate(measurementsOf(finished_panel.parameters)[:2]):
        finished_panel.ui.resultsTable.cellClicked.emit(number, 1)
        for widget in slice_widgets():
            to_ras = widget.mrmlSliceNode().GetSliceToRAS()
            centre = [to_ras.GetElement(axis, 3) for axis in range(3)]
            assert centre == pytest.approx(row.centroid_ras, abs=1e-3), widget.mrmlSliceNode().GetName()


def test_after_a_run_the_slices_show_the_image_that_was_segmented(finished_panel, t2w_volume):
    for widget in slice_widgets():
        assert widget.mrmlSliceCompositeNode().GetBackgroundVolumeID() == t2w_volume.GetID()
        assert not widget.mrmlSliceCompositeNode().GetForegroundVolumeID()


@pytest.mark.parametrize(("button", "layers"), SLICE_BUTTONS.items())
def test_a_button_shows_its_images_in_the_slices(finished_panel, button, layers):
    background, foreground = (name and getattr(finished_panel.parameters, name) for name in layers)
    getattr(finished_panel.ui, button).click()
    for widget in slice_widgets():
        composite = widget.mrmlSliceCompositeNode()
        assert composite.GetBackgroundVolumeID() == background.GetID()
        assert (composite.GetForegroundVolumeID() or None) == (foreground and foreground.GetID())
        assert composite.GetForegroundOpacity() == pytest.approx(0.6 if foreground else 0.0)


def test_differences_can_be_shown_only_with_a_reference(panel, cbct_volume, study_of):
    panel.choose(cbct=cbct_volume, prostate=False, dil=False, ctFromCbct=True)
    panel.run(study_of("ct-from-cbct"))
    ui = panel.ui
    assert ui.showCtFromCbctButton.enabled
    assert not ui.showDifferenceFromCbctButton.enabled
    assert "choose a reference CT" in ui.showDifferenceFromCbctButton.toolTip
    assert not ui.remeasureButton.enabled and not ui.show3DButton.enabled and not ui.showChartButton.enabled


def test_a_run_of_a_ct_alone_shows_the_ct(panel, cbct_volume, study_of):
    panel.choose(cbct=cbct_volume, prostate=False, dil=False, ctFromCbct=True)
    panel.run(study_of("ct-from-cbct"))
    made = panel.parameters.syntheticCtFromCbct
    assert slice_widgets()[0].mrmlSliceCompositeNode().GetBackgroundVolumeID() == made.GetID()
    assert panel.ui.resultsLabel.text == "No structures were segmented."


def test_the_ct_window_is_that_of_the_list(finished_panel):
    displays = [finished_panel.parameters.syntheticCtFromMr, finished_panel.parameters.syntheticCtFromCbct]
    displays = [node.GetDisplayNode() for node in displays]
    assert {(display.GetWindow(), display.GetLevel()) for display in displays} == {(400.0, 40.0)}
    finished_panel.ui.ctWindowComboBox.setCurrentIndex(1)
    assert {(display.GetWindow(), display.GetLevel()) for display in displays} == {(1800.0, 400.0)}
    finished_panel.ui.ctWindowComboBox.setCurrentIndex(0)
    assert {(display.GetWindow(), display.GetLevel()) for display in displays} == {(400.0, 40.0)}


def test_a_new_ct_gets_the_window_of_the_list(panel, cbct_volume, study_of):
    panel.choose(cbct=cbct_volume, prostate=False, dil=False, ctFromCbct=True)
    panel.ui.ctWindowComboBox.setCurrentIndex(1)
    panel.run(study_of("ct-from-cbct"))
    assert panel.parameters.syntheticCtFromCbct.GetDisplayNode().GetWindow() == 1800.0


def test_surfaces_come_and_go_and_count_as_no_edit(finished_panel):
    surface = slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()
    segmentation = finished_panel.parameters.segmentation.GetSegmentation()
    finished_panel.ui.show3DButton.click()
    assert segmentation.ContainsRepresentation(surface) and finished_panel.ui.show3DButton.checked
    finished_panel.widget.sections.show()
    assert finished_panel.ui.show3DButton.checked
    finished_panel.ui.show3DButton.click()
    assert not segmentation.ContainsRepresentation(surface) and not finished_panel.ui.show3DButton.checked
    assert not finished_panel.parameters.edited


def test_the_plot_of_volumes_is_brought_into_view(finished_panel):
    before = slicer.app.layoutManager().layout
    finished_panel.ui.showChartButton.click()
    assert slicer.app.layoutManager().layout != before
    selection = slicer.app.applicationLogic().GetSelectionNode()
    assert selection.GetActivePlotChartID() == finished_panel.parameters.volumesChart.GetID()


def test_measuring_again_without_an_edit_changes_nothing(finished_panel):
    before = measurementsOf(finished_panel.parameters)
    finished_panel.ui.remeasureButton.click()
    after = measurementsOf(finished_panel.parameters)
    assert [row.voxel_count for row in after] == [row.voxel_count for row in before]
    for one, other in zip(before, after, strict=True):
        assert one.centroid_ras == pytest.approx(other.centroid_ras, abs=1e-3)
    assert not finished_panel.parameters.edited


def test_an_edit_is_told_at_once_and_measured_by_exactly_its_voxels(finished_panel):
    before = row_of(finished_panel, "Prostate")
    assert "edited" not in finished_panel.ui.resultsLabel.text

    def cut(voxels):
        occupied = np.flatnonzero(voxels.any(axis=(1, 2)))
        voxels[occupied[:2]] = 0

    change = edit(finished_panel, "Prostate", cut)
    assert change < 0
    assert finished_panel.parameters.edited and "edited" in finished_panel.ui.resultsLabel.text
    assert finished_panel.cell(0, 1) == f"{before.volume_cm3:.2f}"  # nothing is measured unasked
    finished_panel.ui.remeasureButton.click()
    after = row_of(finished_panel, "Prostate")
    assert after.voxel_count - before.voxel_count == change
    assert after.volume_cm3 - before.volume_cm3 == pytest.approx(change * 16 / 1000)  # voxels of 2 x 2 x 4 mm
    assert finished_panel.cell(0, 1) == f"{after.volume_cm3:.2f}"
    table = finished_panel.parameters.measurements.GetTable()
    assert table.GetColumnByName("volume_cm3").GetValue(0) == pytest.approx(after.volume_cm3)
    point = [0.0] * 3
    finished_panel.parameters.centroids.GetNthControlPointPositionWorld(0, point)
    assert point == pytest.approx(after.centroid_ras, abs=1e-6)
    assert point[2] > before.centroid_ras[2]
    assert "edited" in finished_panel.ui.resultsLabel.text


def test_a_segment_that_was_added_is_measured(finished_panel):
    segmentation = finished_panel.parameters.segmentation.GetSegmentation()
    segmentation.AddEmptySegment("Mine", "Öl")
    edit(finished_panel, "Mine", lambda voxels: voxels.__setitem__((slice(2, 4), slice(2, 5), slice(2, 7)), 1))
    finished_panel.ui.remeasureButton.click()
    assert row_of(finished_panel, "Öl").voxel_count == 2 * 3 * 5


def test_another_colour_is_no_edit(finished_panel):
    finished_panel.parameters.segmentation.GetSegmentation().GetSegment("DIL").SetColor(0, 0, 1)
    assert not finished_panel.parameters.edited


def test_a_new_run_is_not_edited(finished_panel, whole_study):
    edit(finished_panel, "Prostate", lambda voxels: voxels.fill(0))
    assert finished_panel.parameters.edited
    finished_panel.run(whole_study)
    assert not finished_panel.parameters.edited
    assert finished_panel.ui.resultsLabel.text.startswith("Click a row")


def test_a_reference_chosen_after_the_run_is_compared_when_measured_again(finished_panel, phantom_study, tmp_path):
    from ProstateXferLib.images.segmentation_file import write_segmentation
    from ProstateXferLib.images.structures import DIL, PROSTATE
    from ProstateXferSlicer.scene.segmentations import loadSegmentation

    path = write_segmentation(phantom_study.labels, (PROSTATE, DIL), tmp_path / "truth.seg.nrrd")
    columns = finished_panel.ui.resultsTable.columnCount
    finished_panel.choose(referenceSegmentation=loadSegmentation(path, "truth", finished_panel.parameters.t2w))
    finished_panel.ui.remeasureButton.click()
    assert finished_panel.ui.resultsTable.columnCount == columns + 3
    assert row_of(finished_panel, "Prostate").dice > 0.7
    assert not finished_panel.parameters.edited


def test_measuring_a_result_whose_image_was_removed_is_refused_in_one_sentence(finished_panel, t2w_volume, dialogs):
    slicer.mrmlScene.RemoveNode(t2w_volume)
    finished_panel.ui.remeasureButton.click()
    assert dialogs.texts("error") == [
        "Segmentation, table or image of the last run are gone: run Prostate or DIL again."
    ]


def test_removed_results_empty_the_table_and_grey_the_buttons(finished_panel):
    for name in ("segmentation", "measurements", "uncertaintyMap"):
        slicer.mrmlScene.RemoveNode(getattr(finished_panel.parameters, name))
    ui = finished_panel.ui
    assert ui.resultsTable.rowCount == 0
    assert not ui.remeasureButton.enabled and not ui.exportCsvButton.enabled and not ui.showUncertaintyButton.enabled
    assert ui.showCtFromMrButton.enabled


def test_the_table_names_what_it_shows_with_units(finished_panel):
    table = finished_panel.ui.resultsTable
    headers = [table.horizontalHeaderItem(column) for column in range(table.columnCount)]
    texts = [header.text().split("\n") for header in headers]
    assert [text[0] for text in texts[:3]] == ["Structure", "Volume", "Of gland"]
    assert texts[1][1] == "cm³" and texts[3] == ["R", "mm"]
    assert all(header.toolTip() for header in headers)


def test_a_run_that_ends_with_the_panel_hidden_still_fills_it(panel, t2w_volume, study_of):
    panel.choose(t2w=t2w_volume)
    panel.startAndWaitForChild(study=study_of("prostate", "dil"))
    panel.widget.parent.hide()
    panel.child.goOn()
    until(lambda: not panel.isRunning())
    assert panel.ui.resultsTable.rowCount > 0
