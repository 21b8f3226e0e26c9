# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer phantom`: what it writes belongs together and is what its truth says."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from ProstateXferLib.cli.main import main
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import read_image, write_image
from ProstateXferLib.images.segmentation_file import read_segmentation
from ProstateXferLib.metrics.measure import measure

SMALL = ("--spacing", "1.5", "1.5", "3", "--size", "96", "96", "20")
IMAGES = ("t2w.nii.gz", "ct.nii.gz", "cbct.nii.gz", "anatomy.nii.gz")


def phantom(folder, *words):
    assert main(["phantom", str(folder), *words]) == 0
    return folder


def test_all_six_files_are_written_and_listed(tmp_path, capsys):
    folder = phantom(tmp_path / "new" / "case", *SMALL, "--json")
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["event"] == "result"
    assert sorted(last["files"]) == sorted(str(path) for path in folder.iterdir())
    assert {path.name for path in folder.iterdir()} == {*IMAGES, "labels.seg.nrrd", "truth.json"}


def test_every_image_lies_on_the_grid_asked_for_with_the_prostate_in_its_middle(tmp_path):
    folder = phantom(tmp_path, *SMALL)
    wanted = Grid((96, 96, 20), (1.5, 1.5, 3.0), (-71.25, -71.25, -28.5))
    labels, _ = read_segmentation(folder / "labels.seg.nrrd")
    for image in [labels, *(read_image(folder / name) for name in IMAGES)]:
        assert Grid.of(image).same_as(wanted)
    assert labels[48, 48, 10] > 0


def test_the_labels_have_the_volumes_and_places_of_the_truth(tmp_path):
    folder = phantom(tmp_path, "--seed", "3", "--lesions", "1.5")
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    assert (truth["seed"], truth["lesion_volumes_cm3"]) == (3, [1.5])
    labels, structures = read_segmentation(folder / "labels.seg.nrrd")
    rows = {row.id: row for row in measure(labels, {s.value: s.name for s in structures})}
    for name, tolerance in (("Prostate", 0.02), ("DIL", 0.06)):  # voxels of 1.7 mm3 along the surface
        expected = truth["structures"][name]
        assert rows[name].volume_cm3 == pytest.approx(expected["volume_cm3"], rel=tolerance)
        assert rows[name].centroid_lps == pytest.approx(expected["centroid_lps"], abs=0.5)
    assert truth["structures"]["DIL"]["volume_cm3"] == pytest.approx(1.5, rel=1e-6)


def test_the_same_seed_gives_the_same_voxels_and_another_one_does_not(tmp_path):
    first, same, other = (
        sitk.GetArrayFromImage(read_image(phantom(tmp_path / str(n), *SMALL, "--seed", seed) / "t2w.nii.gz"))
        for n, seed in enumerate(("5", "5", "6"))
    )
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_a_gland_without_lesions_has_no_lesion(tmp_path):
    folder = phantom(tmp_path, *SMALL, "--lesions")
    labels, _ = read_segmentation(folder / "labels.seg.nrrd")
    assert np.unique(sitk.GetArrayViewFromImage(labels)).tolist() == [0, 1]
    assert "DIL" not in json.loads((folder / "truth.json").read_text(encoding="utf-8"))["structures"]


def test_the_grid_of_an_oblique_image_is_taken_over(tmp_path):
    turn = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
    grid = Grid((48, 40, 12), (2.0, 2.0, 4.0), (-10.0, -60.0, -20.0), turn)
    image = write_image(grid.image(np.zeros(grid.shape_zyx, np.int16)), tmp_path / "like.nii.gz")
    folder = phantom(tmp_path / "case", "--grid-of", str(image))
    assert Grid.of(read_image(folder / "t2w.nii.gz")).same_as(grid)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--spacing", "1", "1", "3"), "--spacing and --size describe a grid together"),
        (("--grid-of", "a.nii.gz", *SMALL), "exclude each other"),
        (("--lesions", "0"), "'0' is not a number above zero"),
        (("--lesions", "nan"), "'nan' is not a number above zero"),
        (("--spacing", "1", "1", "3", "--size", "0", "9", "9"), "--size needs three numbers of voxels from 1 up"),
    ],
)
def test_arguments_that_do_not_fit_are_wrong_use_and_write_nothing(tmp_path, capsys, words, complaint):
    assert main(["phantom", str(tmp_path / "case"), *words]) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "case").exists()


def test_a_missing_image_for_the_grid_is_one_sentence(tmp_path, capsys):
    assert main(["phantom", str(tmp_path / "case"), "--grid-of", str(tmp_path / "nowhere.nii.gz")]) == 1
    assert capsys.readouterr().err.startswith("prostatexfer: There is no file or folder")


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    assert main(["phantom", str(tmp_path / "file" / "case"), *SMALL]) == 1
    assert "prostatexfer: Cannot make the folder" in capsys.readouterr().err
