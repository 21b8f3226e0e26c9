# SPDX-License-Identifier: Apache-2.0
"""Samples of a run in the panel: range and "seen by" in the table, outlines on request, and nothing after an edit."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import slicer

from ProstateXferLib.cohort.result import StudyResult
from ProstateXferLib.cohort.sample_file import read_samples, write_samples
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.segmentation_file import read_segmentation
from ProstateXferLib.metrics.measure import measure
from ProstateXferLib.pipelines.sample import Sample
from ProstateXferLib.pipelines.segmentation import Segmentation
from ProstateXferLib.reports.table import write_measurements_csv
from ProstateXferSlicer.scene.parameters import measurementsOf
from ProstateXferSlicer.scene.tables import readTable
from study_child.fixtures import until


@pytest.fixture
def sampled_study(study_of):
    """A study as an ensemble of two would have left it: one member found the result, the other a gland without base."""
    folder = study_of("prostate", "dil")
    labels, structures = read_segmentation(folder / "segmentation.seg.nrrd")
    less = sitk.GetArrayFromImage(labels)
    less[np.flatnonzero((less > 0).any(axis=(1, 2)))[-2:]] = 0
    less[less == 2] = 1
    samples = (Sample("unet", labels, structures), Sample("dino", Grid.of(labels).image(less), structures))
    rows = tuple(measure(Segmentation(labels, structures, samples=samples, sampled_by="members")))
    name = write_samples(samples, folder / "samples.seg.nrrd").name
    write_measurements_csv(rows, folder / "measurements.csv")
    run = StudyResult.read(folder)
    replace(run, measurements=rows, sampled_by="members", outputs={**run.outputs, "samples": name}).write()
    return folder


@pytest.fixture
def sampled_panel(panel, t2w_volume, sampled_study):
    panel.choose(t2w=t2w_volume)
    panel.run(sampled_study)
    return panel


def columns(panel):
    table = panel.ui.resultsTable
    headers = [table.horizontalHeaderItem(column) for column in range(table.columnCount)]
    return {header.text().split("\n")[0]: (number, header.toolTip()) for number, header in enumerate(headers)}


def shrink(panel):
    """Take a slice off the gland, as with the Segment Editor."""
    node, image = panel.parameters.segmentation, panel.parameters.measuredImage
    voxels = slicer.util.arrayFromSegmentBinaryLabelmap(node, "Prostate", image).copy()
    voxels[np.flatnonzero(voxels.any(axis=(1, 2)))[0]] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(voxels, node, "Prostate", image)


def test_the_table_has_range_and_count_that_say_what_they_are(sampled_panel, sampled_study):
    found, rows = columns(sampled_panel), StudyResult.read(sampled_study).measurements
    gland, lesion = rows[0], next(row for row in rows if row.id == "DIL")
    number, tip = found["Range"]
    assert sampled_panel.cell(0, number) == f"{gland.volume_low_cm3:.2f}–{gland.volume_high_cm3:.2f}"
    assert gland.volume_low_cm3 < gland.volume_high_cm3 == pytest.approx(gland.volume_cm3)
    assert "no confidence interval" in tip
    number, tip = found["Seen by"]
    assert "intersection over union" in tip
    assert lesion.voxel_count
    assert sampled_panel.cell(rows.index(lesion), number) == "1 of 2"
    assert sampled_panel.cell(0, number) == "–"


def test_a_run_without_samples_has_no_such_columns_and_nothing_to_lay_over_the_slices(panel, t2w_volume, study_of):
    panel.choose(t2w=t2w_volume)
    panel.run(study_of("prostate", "dil"))
    assert not {"Range", "Seen by"} & set(columns(panel))
    assert not panel.ui.showSamplesButton.enabled
    assert "an ensemble" in panel.ui.showSamplesButton.toolTip


def test_outlines_of_the_samples_come_and_go_with_the_button(sampled_panel):
    node, button = sampled_panel.parameters.samples, sampled_panel.ui.showSamplesButton
    names = [
        node.GetSegmentation().GetNthSegment(n).GetName() for n in range(node.GetSegmentation().GetNumberOfSegments())
    ]
    assert {"Prostate (unet)", "Prostate (dino)"} <= set(names)
    assert button.enabled and not button.checked and not node.GetDisplayVisibility()
    button.click()
    assert node.GetDisplayVisibility() and not node.GetDisplayNode().GetVisibility2DFill()
    sampled_panel.widget.sections.show()
    assert button.checked
    button.click()
    assert not node.GetDisplayVisibility() and not sampled_panel.parameters.edited


def test_measuring_again_without_an_edit_keeps_what_the_samples_said(sampled_panel):
    before = measurementsOf(sampled_panel.parameters)
    sampled_panel.ui.remeasureButton.click()
    after = measurementsOf(sampled_panel.parameters)
    assert not sampled_panel.parameters.edited
    told = [(row.volume_low_cm3, row.volume_high_cm3, row.samples, row.seen_by) for row in before]
    assert [(row.volume_low_cm3, row.volume_high_cm3, row.samples, row.seen_by) for row in after] == told
    assert readTable(sampled_panel.parameters.measurements)[0].volumeLowCm3 == before[0].volume_low_cm3


def test_an_edit_takes_range_and_count_away_at_once_and_says_so(sampled_panel):
    assert {"Range"} <= set(columns(sampled_panel))
    shrink(sampled_panel)
    assert not {"Range", "Seen by"} & set(columns(sampled_panel))
    assert "ranges of volume" in sampled_panel.ui.resultsLabel.text
    assert all(row.samples is None for row in measurementsOf(sampled_panel.parameters))
    sampled_panel.ui.remeasureButton.click()
    assert not {"Range", "Seen by"} & set(columns(sampled_panel))
    assert all(row.samples is row.volumeLowCm3 is None for row in readTable(sampled_panel.parameters.measurements))


@pytest.mark.parametrize("edited", [False, True])
def test_the_page_is_given_the_samples_unless_the_segmentation_was_edited(
    sampled_panel, sampled_study, dialogs, tmp_path, edited
):
    if edited:
        shrink(sampled_panel)
        sampled_panel.ui.remeasureButton.click()
    dialogs.paths = [tmp_path / "report.html"]
    sampled_panel.ui.exportReportButton.click()
    until(lambda: sampled_panel.ui.exportReportButton.enabled, 60)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert ("Agreement of the samples" in page) is not edited
    assert ("no confidence interval" in page) is not edited
    assert ("left out" in page) is edited


def test_samples_come_back_from_slicer_voxel_by_voxel(sampled_panel, sampled_study, tmp_path):
    from ProstateXferSlicer.scene.segmentations import segmentationFile

    path = segmentationFile(sampled_panel.parameters.samples, tmp_path / "saved.seg.nrrd")
    for saved, made in zip(read_samples(path), read_samples(sampled_study / "samples.seg.nrrd"), strict=True):
        assert saved.name == made.name
        assert [s.name for s in saved.structures] == [s.name for s in made.structures]
        assert np.array_equal(sitk.GetArrayFromImage(saved.labels), sitk.GetArrayFromImage(made.labels))
