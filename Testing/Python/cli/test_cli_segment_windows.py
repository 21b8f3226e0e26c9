# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer segment` with windows laid for speed: what was asked for is run, recorded, and refused where wrong."""

import json

import numpy as np
import SimpleITK as sitk
from nnunet_results.folders import write_folder

from ProstateXferLib.cli.main import main
from ProstateXferLib.images.io import read_image, write_image
from ProstateXferLib.pipelines.segmenter import Segmenter

OPTIONS = {"window_step": 0.75, "skip_windows": True, "precision": "bf16"}
WORDS = ["--window-step", "0.75", "--skip-windows", "--precision", "bf16"]


def image_file(folder):
    values = np.random.default_rng(0).normal(size=(12, 20, 20)).astype(np.float32)
    return write_image(sitk.GetImageFromArray(values), folder / "t2w.nii.gz")


def test_the_options_reach_the_network_and_the_record(tmp_path):
    model, image, output = write_folder(tmp_path / "model"), image_file(tmp_path), tmp_path / "found.nii.gz"
    command = ["segment", str(image), "-m", str(model), "-o", str(output), "--device", "cpu"]
    assert main([*command, *WORDS]) == 0
    record = json.loads(output.with_name("found.nii.gz.json").read_text(encoding="utf-8"))
    assert {name: record["options"][name] for name in OPTIONS} == OPTIONS
    expected = Segmenter(model, device="cpu", **OPTIONS).predict(read_image(image))
    found = sitk.GetArrayFromImage(read_image(output))
    assert np.array_equal(found, sitk.GetArrayFromImage(expected.labels)) and found.any()
    assert main(command) == 0
    assert not np.array_equal(sitk.GetArrayFromImage(read_image(output)), found)


def test_a_step_that_leaves_gaps_is_refused_before_anything_is_written(tmp_path, capsys):
    model, image, output = write_folder(tmp_path / "model"), image_file(tmp_path), tmp_path / "found.nii.gz"
    words = ["segment", str(image), "-m", str(model), "-o", str(output), "--device", "cpu", "--window-step", "1.5"]
    assert main(words) != 0
    assert "window step of 1.5" in capsys.readouterr().err
    assert not output.exists()
