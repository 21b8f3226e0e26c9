# SPDX-License-Identifier: Apache-2.0
"""Models of several sequences in studies and batches: an nnU-Net of T2w and ADC, run as `segment --also` runs it."""

import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from nnunet_results.folders import arch_kwargs, configuration, random_weights, write_folder
from outcomes.written_files import rows_of

from ProstateXferLib.checkpoints.architectures import complete_arguments
from ProstateXferLib.checkpoints.card import Head, ModelCard, Preprocessing
from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.checkpoints.loading import load_checkpoint
from ProstateXferLib.cli.main import main
from ProstateXferLib.cohort.result import StudyResult
from ProstateXferLib.files import file_sha256
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.intensity import IntensityRule
from ProstateXferLib.images.io import read_image, write_image
from ProstateXferLib.images.structures import DIL, PROSTATE
from ProstateXferLib.pipelines.ensemble import make_ensemble
from ProstateXferLib.pipelines.provenance import image_sha256

GRID = Grid((16, 14, 8), (1.0, 1.0, 3.0), (-20.0, 5.0, 30.0), (1, 0, 0, 0, 1, 0, 0, 0, -1))
COARSE = Grid((8, 7, 8), (2.0, 2.0, 3.0), (-19.5, 5.5, 30.0), GRID.direction)


def noise(grid, seed):
    values = np.random.default_rng(seed).normal(100, 30, grid.shape_zyx)
    return grid.image(values.astype(np.float32))


@pytest.fixture
def images(tmp_path):
    """A T2w image, its ADC map on a coarser grid, and two that do not belong to them."""
    apart = Grid(COARSE.size_xyz, COARSE.spacing_xyz, (500.0, 500.0, 500.0), COARSE.direction)
    written = {"t2w": noise(GRID, 0), "adc": noise(COARSE, 1), "other": noise(COARSE, 2), "apart": noise(apart, 1)}
    return {name: write_image(image, tmp_path / f"{name}.nii.gz") for name, image in written.items()}


@pytest.fixture
def folder(tmp_path):
    """The results folder of an nnU-Net of two channels."""
    return write_folder(
        tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres",
        configuration(channels=2),
        dataset={"channel_names": {"0": "T2W", "1": "ADC"}},
        weights=random_weights(channels=2),
    )


@pytest.fixture
def model(folder, tmp_path):
    """One file imported from it."""
    assert main(["import", str(folder), str(tmp_path / "two.safetensors"), "--name", "two"]) == 0
    return tmp_path / "two.safetensors"


@pytest.fixture
def dense_model(tmp_path):
    """The same network without nnU-Net's plans."""
    arguments = complete_arguments("plain_conv_unet", arch_kwargs(3), channels=2, classes=3)
    card = ModelCard(
        name="two",
        task="segmentation",
        architecture="plain_conv_unet",
        arguments=arguments,
        inputs=("T2w", "ADC"),
        preprocessing=Preprocessing(IntensityRule("zscore")),
        structures=(PROSTATE, DIL),
        heads=(Head("segmentation", (PROSTATE.value, DIL.value)),),
    )
    return write_checkpoint(tmp_path / "dense.safetensors", card, random_weights(channels=2))


def words(*parts):
    return [*map(str, parts), "--device", "cpu", "--precision", "fp32"]


def study(model, out, *parts):
    both = ("--tasks", "prostate", "dil", "--prostate-model", model, "--dil-model", model)
    return main(words("study", *parts, *both, "-o", out))


def array(path):
    return sitk.GetArrayFromImage(read_image(path))


@pytest.mark.parametrize("kind", ["folder", "model", "dense_model"])
def test_a_study_gives_what_segment_gives_and_records_every_image(kind, images, tmp_path, request):
    model = request.getfixturevalue(kind)
    out = tmp_path / "study"
    assert study(model, out, "--t2w", images["t2w"], "--adc", images["adc"]) == 0
    also = ("--also", f"ADC={images['adc']}")
    assert main(words("segment", images["t2w"], *also, "-m", model, "-o", tmp_path / "alone.seg.nrrd")) == 0
    found = read_image(out / "segmentation.seg.nrrd")
    assert Grid.of(found).same_as(GRID)
    assert np.array_equal(sitk.GetArrayFromImage(found), array(tmp_path / "alone.seg.nrrd"))
    assert len(np.unique(sitk.GetArrayFromImage(found))) > 1
    result = StudyResult.read(out)
    assert result.file_sha256 == {name: file_sha256(images[name]) for name in ("t2w", "adc")}
    fingerprints = {name: image_sha256(read_image(images[name])) for name in ("t2w", "adc")}
    assert result.image_sha256 == fingerprints
    record = result.provenance["segmentation"]
    assert record["input_sha256"] == {"T2w": fingerprints["t2w"], "ADC": fingerprints["adc"]}
    assert [one["sha256"] for one in record["models"]] == [load_checkpoint(model).sha256]
    told = any("resampled onto the grid of the first one" in warning for warning in result.warnings)
    assert told == (kind != "dense_model")  # nnU-Net itself would have refused another grid
    assert not any("was not used" in warning for warning in result.warnings)


def test_an_ensemble_of_models_of_one_and_of_two_sequences_asks_for_both(model, images, tmp_path, capsys):
    single = write_folder(tmp_path / "single", weights=random_weights(seed=3))
    ensemble = tmp_path / "ensemble.safetensors"
    make_ensemble(ensemble, [model, single])
    assert study(ensemble, tmp_path / "s", "--t2w", images["t2w"]) == 2
    assert "Choose the ADC map for Prostate and DIL, or another model: 'ensemble' takes T2w and ADC." in (
        capsys.readouterr().err
    )
    assert study(ensemble, tmp_path / "s", "--t2w", images["t2w"], "--adc", images["adc"]) == 0
    record = StudyResult.read(tmp_path / "s").provenance["segmentation"]
    assert list(record["input_sha256"]) == ["T2w", "ADC"]
    assert {load_checkpoint(member).sha256 for member in (model, single)} <= {m["sha256"] for m in record["models"]}


def test_the_adc_map_counts(model, images, tmp_path):
    for name in ("adc", "other"):
        assert study(model, tmp_path / name, "--t2w", images["t2w"], "--adc", images[name]) == 0
    assert not np.array_equal(*(array(tmp_path / name / "segmentation.seg.nrrd") for name in ("adc", "other")))


def test_a_missing_map_is_asked_for_and_one_of_another_place_is_refused(model, images, tmp_path, capsys):
    assert study(model, tmp_path / "s", "--t2w", images["t2w"]) == 2
    assert "Choose the ADC map for Prostate and DIL, or another model: 'two' takes T2w and ADC." in (
        capsys.readouterr().err
    )
    assert study(model, tmp_path / "s", "--t2w", images["t2w"], "--adc", images["apart"]) == 1
    assert "The ADC map covers 0% of the reference image" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_a_page_names_the_sequences_and_no_slices_that_there_are_not(model, images, tmp_path):
    pytest.importorskip("matplotlib")
    assert study(model, tmp_path / "s", "--t2w", images["t2w"], "--adc", images["adc"]) == 0
    assert main(["report", str(tmp_path / "s"), "-o", str(tmp_path / "s.html")]) == 0
    page = (tmp_path / "s.html").read_text(encoding="utf-8")
    assert "segmented on T2w with ADC (interpolated linearly on its grid where theirs differed)" in page
    assert "slice by slice" not in page


@pytest.mark.parametrize("kind", ["table", "folders"])
def test_a_batch_gives_each_case_its_maps_and_fails_the_one_without(model, images, tmp_path, capsys, kind):
    if kind == "table":
        manifest = tmp_path / "cases.csv"
        lines = ["case,t2w,adc", "whole,t2w.nii.gz,adc.nii.gz", "changed,t2w.nii.gz,other.nii.gz", "bare,t2w.nii.gz,"]
        manifest.write_text("\n".join(lines), encoding="utf-8")
    else:
        manifest = tmp_path / "cases"
        for case, adc in (("whole", "adc"), ("changed", "other"), ("bare", None)):
            (manifest / case).mkdir(parents=True)
            shutil.copy(images["t2w"], manifest / case / "t2w.nii.gz")
            if adc:
                shutil.copy(images[adc], manifest / case / "ADC.nii.gz")
    options = ("--tasks", "prostate", "--prostate-model", model, "--json")
    capsys.readouterr()
    assert main(words("batch", manifest, "-o", tmp_path / "out", *options)) == 3
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    ended = {event["case"]: event for event in told if event["event"] == "case"}
    assert {case: event["state"] for case, event in ended.items()} == {
        "whole": "done",
        "changed": "done",
        "bare": "failed",
    }
    assert ended["bare"]["message"] == "Choose the ADC map for Prostate, or another model: 'two' takes T2w and ADC."
    table = rows_of(tmp_path / "out" / "measurements.csv")
    volumes = {row["case"]: row["volume_cm3"] for row in table if row["id"] == "Prostate"}
    assert set(volumes) == {"whole", "changed"} and volumes["whole"] != volumes["changed"]
    assert main(words("batch", manifest, "-o", tmp_path / "out", *options)) == 3  # again: what is done is not redone
    again = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {e["case"]: e["state"] for e in again if e["event"] == "case"} == {
        "whole": "skipped",
        "changed": "skipped",
        "bare": "failed",
    }
