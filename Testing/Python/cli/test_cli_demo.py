# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer demo`: every file is there, fits the others, and the page shows what the tables say."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import SimpleITK as sitk
from outcomes.written_files import rows_of

from ProstateXferLib.cli.main import main
from ProstateXferLib.images.body import body_mask
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import read_image, write_image
from ProstateXferLib.images.phantom import make_phantom
from ProstateXferLib.images.segmentation_file import read_segmentation
from ProstateXferLib.metrics.measure import measure

pytest.importorskip("matplotlib")

T2W_GRID = Grid((64, 64, 8), (3.0, 3.0, 6.0), (-94.5, -94.5, -21.0))
CT_GRID = Grid((88, 64, 6), (5.0, 5.0, 8.0), (-217.5, -157.5, -20.0))
ALWAYS = {
    "measurements.csv",
    "measurements.json",
    "provenance.json",
    "prostate-dil.seg.nrrd",
    "report.html",
    "t2w.nii.gz",
}


class Coarse:
    """A phantom on grids small enough for a test."""

    def __init__(self, phantom):
        self.phantom = phantom

    def render(self, grid=T2W_GRID, **options):
        return self.phantom.render(grid, **options)


@pytest.fixture(scope="module")
def demo(tmp_path_factory, tiny_models):
    """The folder that `demo` makes of the phantom, and what it printed."""
    folder = tmp_path_factory.mktemp("demo") / "new" / "out"
    with pytest.MonkeyPatch.context() as patch, pytest.MonkeyPatch.context() as printed:
        patch.setenv("PROSTATEXFER_MODELS", str(tiny_models))
        patch.setattr("ProstateXferLib.images.phantom.make_phantom", lambda seed: Coarse(make_phantom(seed)))
        patch.setattr("ProstateXferLib.images.phantom.default_ct_grid", lambda: CT_GRID)
        lines = []
        printed.setattr("builtins.print", lambda *words, **_: lines.append(" ".join(map(str, words))))
        assert main(["demo", "-o", str(folder), "--device", "cpu"]) == 0
    return folder, "\n".join(lines)


class Tables(HTMLParser):
    """The tables of a page as lists of rows of texts, and all other text."""

    def __init__(self):
        super().__init__()
        self.tables, self.cell, self.text = [], None, ""

    def handle_starttag(self, tag, attrs):
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.cell = ""

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.tables[-1][-1].append(self.cell.strip())
            self.cell = None

    def handle_data(self, data):
        self.text += data
        if self.cell is not None:
            self.cell += data


@pytest.fixture(scope="module")
def page(demo):
    reader = Tables()
    reader.feed((demo[0] / "report.html").read_text(encoding="utf-8"))
    return reader


def table_of(page, *titles):
    """Rows below the two header lines of the table whose header starts with these titles."""
    return next(table[2:] for table in page.tables if tuple(table[0][: len(titles)]) == titles)


def test_every_file_is_written_and_none_is_half(demo):
    synthesis = {
        "ct.nii.gz",
        *(f"{what}-{name}.nii.gz" for what in ("synthesis-input", "synthetic-ct-from") for name in ("t2w", "cbct")),
    }
    assert {path.name for path in demo[0].iterdir()} == ALWAYS | synthesis | {"truth.seg.nrrd"}


def test_images_that_belong_together_lie_on_one_grid(demo):
    folder = demo[0]
    for group, grid in (
        (("t2w.nii.gz", "prostate-dil.seg.nrrd", "truth.seg.nrrd"), T2W_GRID),
        (("ct.nii.gz", "synthetic-ct-from-t2w.nii.gz", "synthetic-ct-from-cbct.nii.gz"), CT_GRID),
    ):
        assert all(Grid.of(read_image(folder / name)).same_as(grid) for name in group)


def test_the_truth_is_the_phantoms(demo):
    labels, structures = read_segmentation(demo[0] / "truth.seg.nrrd")
    expected = make_phantom(7).render(T2W_GRID, modalities=("t2w",)).labels
    assert np.array_equal(sitk.GetArrayFromImage(labels), sitk.GetArrayFromImage(expected))
    assert [structure.name for structure in structures] == ["Prostate", "DIL"]


def test_the_measurements_are_those_of_the_segmentation_that_was_written(demo):
    labels, structures = read_segmentation(demo[0] / "prostate-dil.seg.nrrd")
    rows = measure(labels, {structure.value: structure.name for structure in structures})
    written = json.loads((demo[0] / "measurements.json").read_text(encoding="utf-8"))["measurements"]
    assert rows[0].volume_cm3 > 0  # the tiny model found something
    assert [row["id"] for row in written] == [row.id for row in rows]
    for found, row in zip(written, rows, strict=True):
        assert found["volume_cm3"] == pytest.approx(row.volume_cm3)
        assert found["centroid_lps"] == (row.centroid_lps and pytest.approx(row.centroid_lps))
        assert found["dice"] is not None


def test_the_page_shows_the_measurements(demo, page):
    written = json.loads((demo[0] / "measurements.json").read_text(encoding="utf-8"))["measurements"]
    shown = table_of(page, "Structure", "Volume", "Of gland")
    compared = table_of(page, "Structure", "Volume", "Reference volume")
    assert [row[0] for row in shown] == [row[0] for row in compared] == [row["id"] for row in written]
    for cells, others, row in zip(shown, compared, written, strict=True):
        assert cells[1] == others[1] == f"{row['volume_cm3']:.2f}"
        assert others[4] == f"{row['dice']:.3f}"
        letters = zip(row["centroid_lps"] or (), ("LR", "PA", "SI"), strict=row["centroid_lps"] is not None)
        place = ", ".join(f"{pair[value < 0]} {abs(value):.1f}" for value, pair in letters)
        assert cells[5] == (place or "–")  # the tiny model finds no DIL


def test_the_csv_and_the_terminal_show_the_same_volumes(demo):
    folder, printed = demo
    written = json.loads((folder / "measurements.json").read_text(encoding="utf-8"))["measurements"]
    rows = rows_of(folder / "measurements.csv")
    assert [row["id"] for row in rows] == [row["id"] for row in written]
    for row, other in zip(rows, written, strict=True):
        assert float(row["volume_cm3"]) == pytest.approx(other["volume_cm3"], abs=1e-6)
        assert re.search(rf"^\s*{other['id']}\s+{other['volume_cm3']:.2f}\s", printed, re.MULTILINE)
    assert f"Page: {(folder / 'report.html').resolve()}" in printed
    assert "Research use only" in printed


def test_the_page_shows_the_error_of_each_synthetic_ct(demo, page):
    rows = {row[0]: row[1:] for row in table_of(page, "Synthetic CT")}
    assert list(rows) == ["CT from T2w", "CT from CBCT"]
    truth = sitk.GetArrayFromImage(read_image(demo[0] / "ct.nii.gz")).astype(float)
    body = sitk.GetArrayFromImage(body_mask(read_image(demo[0] / "ct.nii.gz"))) > 0
    for name in ("t2w", "cbct"):
        synthetic = sitk.GetArrayFromImage(read_image(demo[0] / f"synthetic-ct-from-{name}.nii.gz"))
        shown = rows[f"CT from {'T2w' if name == 't2w' else 'CBCT'}"]
        assert float(shown[0]) == pytest.approx(np.abs(synthetic - truth)[body].mean(), abs=0.06)


def test_the_page_stands_alone_warns_and_names_its_models(demo, page):
    html = (demo[0] / "report.html").read_text(encoding="utf-8")
    assert html.count('src="data:image/png;base64,') == html.count("<img")
    assert html.count("<img") >= 6
    assert "<script" not in html
    assert "Research use only" in page.text
    assert "trained on few public cases" in page.text
    provenance = json.loads((demo[0] / "provenance.json").read_text(encoding="utf-8"))
    assert list(provenance) == ["segmentation", "CT from T2w", "CT from CBCT"]
    for record in provenance.values():
        assert record["models"][0]["sha256"] in page.text
    assert json.loads((demo[0] / "measurements.json").read_text(encoding="utf-8"))["provenance"] == provenance


def test_an_image_of_the_users_own_gets_no_truth_and_the_warnings_for_patients(offline_models, tmp_path, capsys):
    study = make_phantom(3).render(T2W_GRID, modalities=("t2w",))
    image = write_image(study.t2w, tmp_path / "mine.nrrd")
    assert main(["demo", "--image", str(image), "-o", str(tmp_path / "out"), "--device", "cpu", "--json"]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == ALWAYS | {"synthetic-ct-from-t2w.nii.gz"}
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    fractions = [event["fraction"] for event in told[:-1]]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert told[-1]["page"] == str(tmp_path / "out" / "report.html")
    reader = Tables()
    reader.feed((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert "are not CT numbers" in reader.text
    assert "is no finding" in reader.text
    assert not any(table[0][:1] == ["Synthetic CT"] for table in reader.tables)
    rows = json.loads((tmp_path / "out" / "measurements.json").read_text(encoding="utf-8"))["measurements"]
    assert all(row["dice"] is None for row in rows)


def test_an_image_of_the_users_own_never_lies_beside_a_phantoms_truth(offline_models, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_image(make_phantom(3).render(T2W_GRID, modalities=("t2w",)).t2w, tmp_path / "mine.nrrd")
    (tmp_path / "demo-output").mkdir()
    (tmp_path / "demo-output" / "truth.seg.nrrd").touch()
    assert main(["demo", "--image", "mine.nrrd", "-o", "demo-output", "--device", "cpu"]) == 1
    assert "'demo-output' holds the results of a phantom" in capsys.readouterr().err
    assert main(["demo", "--image", "mine.nrrd", "--device", "cpu"]) == 0
    own = tmp_path / "demo-output" / "own-image"
    assert {path.name for path in own.iterdir()} == ALWAYS | {"synthetic-ct-from-t2w.nii.gz"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--image", "nowhere.nii.gz", "-o", "out"), "There is no file or folder 'nowhere.nii.gz'"),
        (("-o", "file/out"), "Cannot make the folder 'file/out'"),
        (("-o", "out", "--device", "cuda:99"), "Device 'cuda:99' was asked for"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(offline_models, tmp_path, monkeypatch, capsys, words, sentence):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ProstateXferLib.images.phantom.make_phantom", lambda seed: Coarse(make_phantom(seed)))
    monkeypatch.setattr("ProstateXferLib.images.phantom.default_ct_grid", lambda: CT_GRID)
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    assert main(["demo", *words]) == 1
    told = capsys.readouterr().err.splitlines()
    assert told[-1].startswith("prostatexfer: ")
    assert sentence in told[-1]
