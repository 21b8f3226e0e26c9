# SPDX-License-Identifier: Apache-2.0
"""The in-domain transfer study: which chains are run, what is tested, and the tables worked out by hand."""

import dataclasses
import json

import numpy as np
import pytest
import SimpleITK as sitk
from outcomes.written_files import rows_of

from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.studies.in_domain_transfer.options import ARCHITECTURES, ENCODERS, TransferOptions
from ProstateXferLib.studies.in_domain_transfer.published import TEST_DICE_IOU, VALIDATION_DICE
from ProstateXferLib.studies.in_domain_transfer.routes import Route, routes
from ProstateXferLib.studies.in_domain_transfer.run import planned_routes, run_study
from ProstateXferLib.studies.in_domain_transfer.slice_overlap import (
    SliceOverlap,
    case_overlap,
    mean_overlap,
    read_overlaps,
    write_overlaps,
)
from ProstateXferLib.studies.in_domain_transfer.tables import network_cells
from ProstateXferLib.studies.in_domain_transfer.training import TrainedFold, TrainedRoute
from ProstateXferLib.studies.in_domain_transfer.writing import markdown
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.recipe.schema import Source

SITES = ("A", "B", "C")
ABOVE = 50  # pixels; the images of these tests are small


def test_three_sites_give_the_papers_sixteen_chains():
    names = [route.name for route in routes(SITES)]
    assert names[:3] == ["A", "B", "C"]
    assert set(names[3:9]) == {"A-B", "A-C", "B-A", "B-C", "C-A", "C-B"}
    assert set(names[9:15]) == {"A-B-C", "B-A-C", "A-C-B", "C-A-B", "B-C-A", "C-B-A"}
    assert names[15:] == ["all"]


def test_every_chain_comes_after_the_one_that_it_goes_on_from():
    every = routes(SITES)
    for place, route in enumerate(every):
        assert route.start is None or route.start in every[:place]
    assert Route(("A", "B", "C")).start == Route(("A", "B"))
    assert Route(("A", "B", "C")).trained_on == ("C",)
    assert Route(SITES, merged=True).trained_on == SITES


def test_every_number_of_the_papers_tables_has_a_place_in_ours():
    targets = {(route.source, target) for route in routes(SITES) for target in route.trained_on}
    assert targets == {(source, target) for source, row in TEST_DICE_IOU.items() for target in row}
    assert VALIDATION_DICE.keys() == set(ENCODERS)
    assert all(row.keys() == set(ARCHITECTURES) for row in VALIDATION_DICE.values())
    # Spot checks against the notes: the best network, the best transfer, the double transfer of Table III.
    assert (
        VALIDATION_DICE["efficientnet-b3"]["unetplusplus"] == max(VALIDATION_DICE["efficientnet-b3"].values()) == 89.27
    )
    assert TEST_DICE_IOU[("C",)]["A"] == (92.34, 86.75)
    assert TEST_DICE_IOU[("C", "B")]["A"] == (91.48, 85.07)


def test_shorter_protocols_leave_out_what_they_say():
    assert [route.name for route in routes(("A", "B"), longest_transfer=0, merged=False)] == ["A", "B"]
    assert [route.name for route in routes(("A", "B"))] == ["A", "B", "A-B", "B-A", "all"]


@pytest.mark.parametrize("names", [(), ("A",), ("A", "A"), ("A", "all"), ("A", "B-C"), ("A", "../B"), ("A", "")])
def test_sites_without_a_usable_name_are_refused(names):
    with pytest.raises(ProstateXferError, match="name"):
        routes(names)


def test_the_grid_adds_the_twenty_seven_other_networks_at_the_first_site():
    sites = {name: Source("cases", name) for name in SITES}
    plain = planned_routes(sites, TransferOptions())
    grid = planned_routes(sites, TransferOptions(grid=True))
    assert (len(plain), len(grid)) == (16, 43)
    assert grid[:16] == plain
    assert {(plan.route.name, plan.architecture, plan.encoder) for plan in grid[16:]} == {
        ("A", a, e) for a in ARCHITECTURES for e in ENCODERS if (a, e) != ("unetplusplus", "efficientnet-b3")
    }


# Two slices of patient p, one of patient q: (reference, prediction, both).
THREE = (
    SliceOverlap("p", "p1", 3, 100, 100, 100),  # Dice 1, IoU 1
    SliceOverlap("p", "p1", 4, 300, 100, 100),  # Dice 200 / 400, IoU 100 / 300
    SliceOverlap("q", "q1", 0, 100, 300, 60),  # Dice 120 / 400, IoU 60 / 340
)


@pytest.mark.parametrize(
    ("average", "dice", "iou", "count"),
    [
        ("slice", (1 + 0.5 + 0.3) / 3, (1 + 1 / 3 + 60 / 340) / 3, 3),
        ("patient", (400 / 600 + 0.3) / 2, (200 / 400 + 60 / 340) / 2, 2),
        ("pooled", 520 / 1000, 260 / 740, 1),
    ],
)
def test_the_three_averages_are_what_they_are_by_hand(average, dice, iou, count):
    mean = mean_overlap(THREE, average)
    assert (mean.dice, mean.iou, mean.count) == (pytest.approx(dice), pytest.approx(iou), count)


def test_only_a_pooled_iou_is_a_function_of_its_dice():
    """Which is why the paper's pairs cannot be pooled ones (published.NOTES)."""
    pooled = mean_overlap(THREE, "pooled")
    assert pooled.iou == pytest.approx(pooled.dice / (2 - pooled.dice))
    sliced = mean_overlap(THREE, "slice")
    assert sliced.iou > sliced.dice / (2 - sliced.dice) + 0.01
    for row in TEST_DICE_IOU.values():
        for dice, iou in row.values():
            assert iou > 100 * (dice / (200 - dice)) + 0.5


def test_slices_are_axial_whatever_the_storage_order_and_small_ones_do_not_count():
    drawn = np.zeros((5, 20, 20), np.uint8)
    drawn[1, :10, :10] = 1  # 100 pixels
    drawn[2, :5, :10] = 1  # 50: not more than 50
    drawn[3, 4:12, 2:12] = 1  # 80
    found = np.zeros_like(drawn)
    found[1, :10, 5:15] = 1  # 50 in common
    found[4] = 1  # no reference: does not count
    case = Case("case", "patient", {})
    expected = [SliceOverlap("patient", "case", 1, 100, 100, 50), SliceOverlap("patient", "case", 3, 80, 0, 0)]
    images = [sitk.GetImageFromArray(array) for array in (drawn, found)]
    assert case_overlap(*images, case, above_pixels=ABOVE) == expected
    sagittal = [sitk.PermuteAxes(image, [1, 2, 0]) for image in images]
    assert case_overlap(*sagittal, case, above_pixels=ABOVE) == expected


def test_slices_are_written_and_read_back(tmp_path):
    path = write_overlaps(tmp_path / "test.csv", THREE)
    assert tuple(read_overlaps(path)) == THREE
    path.write_text("no such table\n", encoding="utf-8")
    with pytest.raises(ProstateXferError, match="no table of slices"):
        read_overlaps(path)


def test_no_slice_gives_no_mean():
    with pytest.raises(ProstateXferError, match="No test slice"):
        mean_overlap([])
    with pytest.raises(ProstateXferError, match="must be one of slice, patient, pooled"):
        mean_overlap(THREE, "case")


def test_table_two_has_mean_and_sample_deviation_over_the_folds(tmp_path):
    values = (0.80, 0.90, 0.85)
    route = TrainedRoute(tuple(TrainedFold(n, tmp_path, value) for n, value in enumerate(values)))
    (cell,) = network_cells({("unetplusplus", "efficientnet-b3"): route})
    assert cell.mean_percent == pytest.approx(85.0)
    assert cell.deviation_percent == pytest.approx(5.0)  # sqrt((25 + 25 + 0) / 2)
    assert (cell.folds, cell.paper_percent) == (3, 89.27)
    assert route.best.fold == 1


def test_of_equal_folds_the_first_is_tested(tmp_path):
    route = TrainedRoute(tuple(TrainedFold(n, tmp_path, value) for n, value in enumerate((0.7, 0.8, 0.8))))
    assert route.best.fold == 1


# The whole study with a stand-in for training: models that compare every pixel with a threshold, exactly.

PATIENTS = 6


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    """Three sites with the same file names: a bright disc, its rim dimmer, on a dark ground; sizes differ."""
    root = tmp_path_factory.mktemp("sites")
    for place, site in enumerate("abc"):
        for patient in range(PATIENTS):
            radius = 12 + place + patient
            _, y, x = np.indices((3, 64, 64))
            distance = np.hypot(y - 32, x - 30)
            image = np.where(distance < radius, 600.0, -500.0)
            image[(distance >= radius - 3) & (distance < radius)] = 100.0 * place
            folder = root / site / f"case_{patient}"
            folder.mkdir(parents=True)
            for name, array in (("t2w", image.astype(np.float32)), ("gland", (distance < radius).astype(np.uint8))):
                volume = sitk.GetImageFromArray(array)
                volume.SetSpacing((0.6, 0.6, 3.0))
                sitk.WriteImage(volume, str(folder / f"{name}.nii.gz"))
    return root


@pytest.fixture(scope="module")
def trainer(segmentation_card, threshold_state):
    """Trainer(): "trains" a threshold that falls by 0.3 with every site seen; fold 1 validates best."""
    states = {threshold: threshold_state(gland=(threshold,)) for threshold in (0.35, 0.05, -0.25, 0.15)}

    class Trainer:
        def __init__(self):
            self.runs = []

        def __call__(self, chain, output, progress):
            (stage,) = chain.stages
            name = output.parent.name
            self.runs.append(
                (name, stage.split.fold, tuple(source.path for source in stage.data), stage.start.checkpoint)
            )
            threshold = 0.15 if name == "all" else (0.35, 0.05, -0.25)[name.count("-")]
            value = 0.8 if stage.split.fold == 1 else 0.6
            history = ({"stage": stage.name, "selected": {"metric": "slice_dice", "value": value, "step": 1}},)
            card = dataclasses.replace(segmentation_card("gland"), history=history)
            stage_folder = output.with_suffix(".run") / "stages" / "01-target"
            stage_folder.mkdir(parents=True)
            for file in ("state.pt", "best.safetensors", "done.json"):
                (stage_folder / file).touch()
            return write_checkpoint(output, card, states[threshold])

    return Trainer


OPTIONS = TransferOptions(
    folds=2,
    changes=(
        "stages.target.settings.validation.slices_above_pixels=50",
        "stages.target.settings.preprocessing.n4=false",
    ),
)
SOURCES = {name: Source("cases", name.lower()) for name in SITES}


def run(sites, folder, train, options=OPTIONS, sources=SOURCES):
    return run_study(sources, options, folder, data=sites, device="cpu", train=train)


@pytest.fixture(scope="module")
def study(sites, trainer, tmp_path_factory):
    """The whole protocol: (folder, tables, what was trained)."""
    folder, train = tmp_path_factory.mktemp("study"), trainer()
    return folder, run(sites, folder, train), train.runs


def test_every_chain_and_fold_is_trained_once_on_its_own_site_from_the_best_of_the_chain_before(study):
    folder, _, runs = study
    assert len(runs) == len(set(runs)) == 16 * 2
    by_run = {(name, fold): (data, start) for name, fold, data, start in runs}
    assert by_run["A", 0] == (("a",), None)
    assert by_run["all", 1] == (("a", "b", "c"), None)
    for name, before in (("A-B", "A"), ("A-B-C", "A-B"), ("C-B-A", "C-B")):
        data, start = by_run[name, 0]
        assert data == (name[-1].lower(),)
        assert start == str(folder / "routes" / before / "fold-1.safetensors")


def test_the_tables_hold_what_the_slices_give_by_hand(study, sites):
    _, tables, _ = study
    cells = {(cell.source, cell.target, cell.average): cell for cell in tables.transfers}
    assert len(cells) == 3 * (3 + 6 + 6 + 3)
    for (source, target, average), cell in cells.items():
        threshold = 0.15 if source == "all" else {"none": 0.35}.get(source, (0.05, -0.25)[source.count("→")])
        dices, ious = [], []
        for patient in patients_in(study, source, target):
            folder = sites / target.lower() / patient.removeprefix(f"{target}/")
            image = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "t2w.nii.gz")))
            drawn = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "gland.nii.gz"))) > 0
            found = image > 1000 * threshold
            both, size = (drawn & found).sum(), drawn.sum() + found.sum()
            dices.append(2 * both / size)  # all slices of these images are alike
            ious.append(both / (size - both))
        if average != "pooled":
            assert cell.dice_percent == pytest.approx(100 * np.mean(dices))
            assert cell.iou_percent == pytest.approx(100 * np.mean(ious))
        assert cell.fold == 1
        assert cell.paper_dice_percent == TEST_DICE_IOU[key_of(source)][target][0]


def key_of(source):
    return source if source == "all" else () if source == "none" else tuple(source.split("→"))


def patients_in(study, source, target):
    route = "all" if source == "all" else "-".join((*key_of(source), target))
    table = rows_of(study[0] / "routes" / route / f"test-{target}.csv")
    return sorted({row["patient_id"] for row in table})


def test_a_sites_test_patients_are_the_same_in_every_chain_and_a_fifth_of_it(study):
    for target in SITES:
        others = [site for site in SITES if site != target]
        sources = ["none", "all", *others, "→".join(others), "→".join(reversed(others))]
        tested = [patients_in(study, source, target) for source in sources]
        assert all(patients == tested[0] for patients in tested)
        assert len(tested[0]) == 2  # 20 % of 6, rounded up
        assert all(patient.startswith(f"{target}/case_") for patient in tested[0])


def test_the_page_has_both_tables_in_the_papers_layout_with_its_numbers_beside(study):
    folder, tables, _ = study
    page = (folder / "tables.md").read_text(encoding="utf-8")
    assert page == markdown(tables)
    lines = page.splitlines()
    assert "| efficientnet-b3 | 70.00 ± 14.14 [89.27] |" in lines
    assert "| source | → A | → B | → C |" in lines
    row = next(line for line in lines if line.startswith("| C→B |"))
    cell = next(c for c in tables.transfers if (c.source, c.target, c.average) == ("C→B", "A", "slice"))
    assert row == f"| C→B | {cell.dice_percent:.2f} / {cell.iou_percent:.2f} [91.48 / 85.07] | – | – |"
    first = lines[lines.index("| source | → A | → B | → C |") + 2 :]
    assert [line.split(" | ")[0].strip("| ") for line in first[:11]] == [
        *("none", "A", "B", "C"),
        *("A→B", "A→C", "B→A", "B→C", "C→A", "C→B"),
        "all",
    ]
    assert any("mean over slices (default)" in line for line in lines)


def test_the_tables_are_there_for_programs_too(study):
    folder, tables, _ = study
    values = json.loads((folder / "tables.json").read_text(encoding="utf-8"))
    assert values["table_3"] == [dataclasses.asdict(cell) for cell in tables.transfers]
    rows = rows_of(folder / "table-3.csv")
    assert [float(row["dice_percent"]) for row in rows] == [cell.dice_percent for cell in tables.transfers]
    assert [row["paper_percent"] for row in rows_of(folder / "table-2.csv")] == ["89.27"]


def test_a_study_that_was_stopped_goes_on_where_it_was(sites, trainer, tmp_path, study):
    options = dataclasses.replace(OPTIONS, longest_transfer=1, merged=False)

    class Stopping(trainer):
        def __call__(self, chain, output, progress):
            if len(self.runs) == 7:
                raise ProstateXferError("The power went.")
            return super().__call__(chain, output, progress)

    with pytest.raises(ProstateXferError, match="power"):
        run(sites, tmp_path / "s", Stopping(), options)
    rest = trainer()
    tables = run(sites, tmp_path / "s", rest, options)
    assert len(rest.runs) == 9 * 2 - 7
    idle = trainer()
    assert run(sites, tmp_path / "s", idle, options) == tables
    assert idle.runs == []
    whole = {(c.source, c.target, c.average): c for c in study[1].transfers}
    assert all(whole[cell.source, cell.target, cell.average] == cell for cell in tables.transfers)


def test_chains_and_networks_may_be_added_to_a_study_but_another_one_is_refused(sites, trainer, tmp_path):
    small = dataclasses.replace(OPTIONS, longest_transfer=0, merged=False)
    two = {name: SOURCES[name] for name in "AB"}
    run(sites, tmp_path / "s", trainer(), small, two)
    more = trainer()
    run(sites, tmp_path / "s", more, dataclasses.replace(small, longest_transfer=1), two)
    assert [name for name, *_ in more.runs] == ["A-B", "A-B", "B-A", "B-A"]
    grid = trainer()
    tables = run(sites, tmp_path / "s", grid, dataclasses.replace(small, grid=True), two)
    assert (len(grid.runs), len(tables.networks)) == (27 * 2, 28)
    for other in (dataclasses.replace(small, epochs=3), dataclasses.replace(small, folds=3)):
        with pytest.raises(ProstateXferError, match="holds another study"):
            run(sites, tmp_path / "s", trainer(), other, two)


def test_of_a_finished_run_the_result_and_its_records_stay(study):
    folds = study[0] / "routes" / "A-B"
    assert {path.name for path in folds.rglob("*") if path.is_file()} == {
        *("fold-0.safetensors", "fold-1.safetensors", "done.json", "test-B.csv")
    }


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"folds": 1}, "leave nothing to validate on"),
        ({"epochs": 0}, "0 epochs train nothing"),
        ({"architecture": "vnet"}, "no network of the study"),
        ({"encoder": "vgg"}, "no network of the study"),
    ],
)
def test_a_study_that_makes_no_sense_is_refused(changes, sentence):
    with pytest.raises(ProstateXferError, match=sentence):
        TransferOptions(**changes)
