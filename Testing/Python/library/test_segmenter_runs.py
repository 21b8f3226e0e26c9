# SPDX-License-Identifier: Apache-2.0
"""Segmenter: what it refuses and how it says so, progress, stopping, provenance, number formats, repeatability."""

import hashlib
import re
import warnings

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from made_images.voxels import array_of, noise
from watchers.watcher import Watcher

from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.checkpoints.loading import load_checkpoint
from ProstateXferLib.errors import CancelledError, ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import read_image, write_image
from ProstateXferLib.images.segmentation_file import read_segmentation
from ProstateXferLib.networks.mr_dinov3 import MRDINOv3
from ProstateXferLib.pipelines.provenance import image_sha256
from ProstateXferLib.pipelines.segmenter import Segmenter
from ProstateXferLib.pipelines.synthesizer import Synthesizer
from ProstateXferLib.version import __version__

GRID = Grid((40, 32, 9), (0.7, 0.9, 3.3), (-12.345, 20.1, 7.07))


@pytest.fixture(scope="module")
def image():
    return noise(GRID, 4)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, random_state, segmentation_card):
    path = tmp_path_factory.mktemp("model") / "random.safetensors"
    return write_checkpoint(path, segmentation_card("gland", "dil"), random_state(gland=2, dil=2))


@pytest.fixture
def segmenter(checkpoint):
    return Segmenter(checkpoint, device="cpu")


def with_voxel(value):
    array = np.ones((4, 16, 16), np.float32)
    array[1, 2, 3] = value
    return sitk.GetImageFromArray(array)


UNUSABLE = {
    "not a number": (with_voxel(np.nan), "not finite numbers"),
    "infinite": (with_voxel(np.inf), "not finite numbers"),
    "constant": (sitk.GetImageFromArray(np.full((4, 16, 16), 7, np.int16)), "every voxel is 7"),
    "four dimensions": (sitk.Image([16, 16, 4, 2], sitk.sitkInt16), "has 4 dimensions"),
    "two dimensions": (sitk.Image([16, 16], sitk.sitkInt16), "has 2 dimensions"),
    "colour": (sitk.Image([16, 16, 4], sitk.sitkVectorUInt8, 3), "3 values in each voxel"),
    "complex": (sitk.Image([16, 16, 4], sitk.sitkComplexFloat32), "complex voxels"),
    "no voxels": (sitk.Image([0, 0, 0], sitk.sitkInt16), r"no voxels \(0 x 0 x 0\)"),
    "no slices": (sitk.Image([16, 16, 0], sitk.sitkInt16), r"no voxels \(16 x 16 x 0\)"),
    "a strip": (sitk.GetImageFromArray(np.arange(64, dtype=np.int16).reshape(4, 4, 4)), "4 x 4 voxels"),
}


@pytest.mark.parametrize(("image", "complaint"), UNUSABLE.values(), ids=UNUSABLE)
def test_an_image_that_cannot_be_segmented_is_refused_in_one_sentence(segmenter, image, complaint):
    with pytest.raises(ProstateXferError, match=complaint) as refusal:
        segmenter.predict(image)
    assert "T2w image" in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("given", [{}, {"T2w": None}, {"ADC": "image"}])
def test_a_missing_sequence_is_named_with_what_was_given(segmenter, image, given):
    with pytest.raises(ProstateXferError, match="needs T2w; T2w is missing") as refusal:
        segmenter.predict({name: image if value else None for name, value in given.items()})
    assert f"given: {'ADC' if 'ADC' in given else 'none'}" in str(refusal.value)


def test_a_mapping_with_more_sequences_than_needed_is_as_good_as_the_image(segmenter, image):
    other = GRID.image(np.zeros(GRID.shape_zyx, np.int16))
    found = segmenter.predict({"ADC": other, "T2w": image})
    assert np.array_equal(array_of(found.labels), array_of(segmenter.predict(image).labels))


def test_a_model_of_two_sequences_is_refused_by_name(tmp_path, image, random_state, segmentation_card):
    card = segmentation_card("gland", inputs=("T2w", "ADC"))
    segmenter = Segmenter(write_checkpoint(tmp_path / "m.safetensors", card, random_state()), device="cpu")
    with pytest.raises(ProstateXferError, match="ADC is missing"):
        segmenter.predict(image)
    with pytest.raises(ProstateXferError, match="'tiny' takes 2 sequences"):
        segmenter.predict({"T2w": image, "ADC": image})


def test_a_checkpoint_of_another_task_is_refused(tmp_path, checkpoint, pointwise_state, synthesis_card):
    path = write_checkpoint(tmp_path / "s.safetensors", synthesis_card(), pointwise_state())
    with pytest.raises(ProstateXferError, match="'tiny' is a synthesis model and cannot segment"):
        Segmenter(path)
    with pytest.raises(ProstateXferError, match="'tiny' is a segmentation model and makes no CT"):
        Synthesizer(checkpoint)


@pytest.mark.parametrize("make", [Segmenter, Synthesizer])
@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"device": "cuda:99"}, r"Device 'cuda:99' was asked for, but PyTorch sees \d+ CUDA device\(s\)"),
        ({"device": "gpu"}, "Device 'gpu' is not known: use auto, cpu, cuda, cuda:N or mps"),
        ({"device": "cuda:x"}, "Device 'cuda:x' is not known"),
        ({"device": "cuda:²"}, "Device 'cuda:²' is not known"),
        ({"device": "cpu:0"}, "Device 'cpu:0' is not known"),
        ({"device": ""}, "Device '' is not known"),
        ({"device": "cpu", "precision": "fp8"}, "Precision 'fp8' is not known: use auto, fp32, bf16, fp16"),
    ],
)
def test_a_device_or_precision_that_is_not_there_is_refused_and_never_replaced(
    tmp_path, checkpoint, pointwise_state, synthesis_card, make, options, complaint
):
    path = checkpoint
    if make is Synthesizer:
        path = write_checkpoint(tmp_path / "s.safetensors", synthesis_card(), pointwise_state())
    with pytest.raises(ProstateXferError, match=complaint):
        make(path, **options)


def test_automatic_precision_on_a_cpu_is_fp32(checkpoint):
    assert Segmenter(checkpoint, device="cpu").dtype == torch.float32


def test_progress_rises_to_one_and_names_the_slices(checkpoint, random_state, segmentation_card, tmp_path, image):
    other = write_checkpoint(tmp_path / "m.safetensors", segmentation_card("gland"), random_state(encoder_seed=2))
    for models in (checkpoint, [checkpoint, other]):
        watcher = Watcher()
        Segmenter(models, device="cpu").predict(image, watcher)
        fractions = watcher.fractions
        assert fractions == sorted(fractions)
        assert 0 < fractions[0] <= 0.5
        assert fractions[-1] == 1
        assert watcher.steps == {"segment"}
        assert watcher.reports[2][2] == "slice 3 of 9"


@pytest.mark.parametrize("reports", [0, 2])
def test_stopping_takes_effect_at_the_next_slice_and_the_segmenter_can_be_used_again(
    segmenter, image, monkeypatch, reports
):
    expected = array_of(segmenter.predict(image).labels)
    encoded, real = [], MRDINOv3.encode
    monkeypatch.setattr(MRDINOv3, "encode", lambda self, batch: encoded.append(len(batch)) or real(self, batch))
    with pytest.raises(CancelledError):
        segmenter.predict(image, Watcher(stop_after=reports))
    assert sum(encoded) == reports  # one slice a report on a CPU
    assert np.array_equal(array_of(segmenter.predict(image).labels), expected)


def test_the_same_image_gives_the_same_voxels_every_time(checkpoint, image):
    segmenter = Segmenter(checkpoint, device="cpu")
    first, again = segmenter.predict(image), segmenter.predict(image)
    fresh = Segmenter(str(checkpoint), device="cpu").predict(sitk.Image(image))
    for other in (again, fresh):
        assert np.array_equal(array_of(first.labels), array_of(other.labels))
        for name, volume in first.probabilities.items():
            assert np.array_equal(array_of(volume), array_of(other.probabilities[name]))


def test_the_input_is_left_as_it_was(segmenter, image):
    before = image_sha256(image)
    segmenter.predict(image)
    assert image_sha256(image) == before


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reduced_precision_moves_few_voxels(checkpoint, image, precision):
    exact = Segmenter(checkpoint, device="cpu").predict(image)
    rough = Segmenter(checkpoint, device="cpu", precision=precision).predict(image)
    assert rough.provenance.options["precision"] == precision
    difference = np.abs(array_of(exact.probabilities["Prostate"]) - array_of(rough.probabilities["Prostate"]))
    assert 0 < difference.mean() < 0.01
    assert (array_of(exact.labels) != array_of(rough.labels)).mean() < 0.02


@pytest.mark.parametrize("task", ["segmentation", "synthesis"])
def test_a_network_that_overflows_in_fp16_is_refused_instead_of_giving_an_empty_result(
    tmp_path, image, random_state, segmentation_card, pointwise_state, synthesis_card, task
):
    large = {
        "segmentation": lambda: (segmentation_card("gland"), random_state(), "up_projection.gland.decode.4.weight"),
        "synthesis": lambda: (synthesis_card("T2w"), pointwise_state(), "generator.encoder.enc1.0.block.0.weight"),
    }
    card, state, name = large[task]()
    state = {**state, name: state[name] * 1e6}
    path = write_checkpoint(tmp_path / "large.safetensors", card, state)
    make = Segmenter if task == "segmentation" else Synthesizer
    make(path, device="cpu").predict(image)
    with pytest.raises(ProstateXferError, match="not finite in fp16: choose the precision bf16 or fp32"):
        make(path, device="cpu", precision="fp16").predict(image)


def test_provenance_names_model_options_versions_input_and_time(checkpoint, image):
    record = Segmenter(checkpoint, device="cpu", tta=True, skip_outside=False).predict(image).provenance
    sha256 = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert record.models == ({"name": "tiny", "sha256": sha256},)
    assert record.options == {
        "device": "cpu",
        "precision": "fp32",
        "tta": True,
        "skip_outside": False,
        "calibrated": False,
    }
    assert record.input_sha256 == {"T2w": image_sha256(image)}
    assert record.versions["prostatexfer"] == __version__
    assert record.versions["torch"] == torch.__version__
    assert {"python", "numpy", "SimpleITK", "scipy", "safetensors"} <= record.versions.keys()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", record.started_utc)
    assert record.seconds > 0
    assert record.warnings == ()


@pytest.mark.parametrize("direction", ["axial", "oblique"])
def test_the_input_hash_does_not_depend_on_the_file_format(tmp_path, image, oblique_direction, direction):
    if direction == "oblique":
        image = Grid(GRID.size_xyz, GRID.spacing_xyz, GRID.origin_lps, oblique_direction).image(array_of(image))
    names = ("a.nii.gz", "a.nii", "a.nrrd", "a.mha")
    hashes = {image_sha256(read_image(write_image(image, tmp_path / name))) for name in names}
    assert hashes == {image_sha256(image)}


def test_the_input_hash_tells_voxels_geometry_and_pixel_type_apart(image):
    array = array_of(image)
    array[0, 0, 0] += 1
    moved = Grid(GRID.size_xyz, GRID.spacing_xyz, np.add(GRID.origin_lps, (0, 0, 0.1)))
    others = [GRID.image(array), moved.image(array_of(image)), sitk.Cast(image, sitk.sitkInt32)]
    assert len({image_sha256(other) for other in (image, *others)}) == 4


def test_a_warning_reaches_the_watcher_and_the_provenance(segmenter, image, monkeypatch):
    real = MRDINOv3.encode

    def small_memory(self, batch):
        if len(batch) > 2:
            raise torch.OutOfMemoryError("pretended")
        return real(self, batch)

    expected = array_of(segmenter.predict(image).labels)
    monkeypatch.setattr(MRDINOv3, "encode", small_memory)
    monkeypatch.setattr("ProstateXferLib.pipelines.encoder_group.default_batch_size", lambda *_: 8)
    watcher = Watcher()
    found = segmenter.predict(image, watcher)
    assert found.provenance.warnings == tuple(watcher.warnings) != ()
    assert np.array_equal(array_of(found.labels), expected)
    with pytest.warns(UserWarning, match="Memory of cpu ran out"):
        segmenter.predict(image)  # without a watcher the warning is Python's


def test_a_result_is_written_with_the_names_of_its_structures(segmenter, image, tmp_path):
    found = segmenter.predict(image)
    labels, structures = read_segmentation(found.write(tmp_path / "found.seg.nrrd"))
    assert {structure.value: structure.name for structure in structures} == found.names == {1: "Prostate", 2: "DIL"}
    assert np.array_equal(array_of(labels), array_of(found.labels))
    assert Grid.of(labels).same_as(GRID)


def test_a_checkpoint_a_path_and_text_are_all_taken(checkpoint, image):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for model in (checkpoint, str(checkpoint), load_checkpoint(checkpoint), [checkpoint], (checkpoint,)):
            assert Segmenter(model, device="cpu").checkpoints[0].path == checkpoint
