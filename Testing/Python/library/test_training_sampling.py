# SPDX-License-Identifier: Apache-2.0
"""Samples by number: the same in every process, as often as asked, cut from where they say."""

import collections
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.augmentation.slice_crops import CropOptions
from ProstateXferLib.training.cache.prepared import PreparedCase
from ProstateXferLib.training.sampling.augmented import AugmentedSamples
from ProstateXferLib.training.sampling.lesion_centred import LesionCentredSamples, LesionOptions
from ProstateXferLib.training.sampling.mixture import MixtureSamples
from ProstateXferLib.training.sampling.patches import PatchOptions, PatchSamples, valid_starts
from ProstateXferLib.training.sampling.slices import SliceOptions, SliceSamples

ROOT = Path(__file__).resolve().parents[3]


def make_case(folder, name, labels, *, known=("Prostate", "DIL")):
    """A prepared case whose image tells the position of every voxel (channel 0) and its label (channel 1)."""
    place = folder / name
    place.mkdir(parents=True)
    position = np.arange(1, labels.size + 1, dtype=np.float32).reshape(labels.shape)
    np.save(place / "image.npy", np.stack([position, labels.astype(np.float32)]))
    np.save(place / "labels.npy", labels)
    found = {int(value): labels == value for value in np.unique(labels[labels > 0])} if known else {}
    for value, where in found.items():
        np.save(place / f"foreground-{value}.npy", np.argwhere(where).astype(np.int32))
    return PreparedCase(
        case_id=name,
        patient_id=name,
        folder=place,
        structures=("Prostate", "DIL"),
        values=(1, 2),
        known=known,
        spacing_zyx=(3.0, 1.0, 1.0),
        shape_zyx=labels.shape,
        slice_voxels={value: tuple(where.sum((1, 2)).tolist()) for value, where in found.items()},
        sha256=name,
    )


@pytest.fixture
def cases(tmp_path):
    gland = np.zeros((8, 40, 36), np.uint8)
    gland[2:6, 12:30, 10:28] = 1
    gland[3, 14:17, 11:14] = 2
    other = np.zeros((6, 30, 44), np.uint8)
    other[1:3, 5:15, 20:30] = 1
    empty = np.zeros((5, 32, 32), np.uint8)
    return [
        make_case(tmp_path, "lesion", gland),
        make_case(tmp_path, "gland", other, known=("Prostate",)),
        make_case(tmp_path, "empty", empty, known=()),
    ]


def samplers(cases):
    lesions = LesionOptions(size_zyx=(4, 12, 12))
    flat = PatchSamples(cases, PatchOptions((16, 16)), 1)
    return {
        "slices, each once": SliceSamples(cases, SliceOptions(), 1),
        "slices, warped": SliceSamples(cases, SliceOptions(warp=CropOptions(size=32), foreground_share=0.5), 1),
        "slices, cropped": SliceSamples(cases, SliceOptions((16, 16), foreground_share=0.5, even_cases=True), 1),
        "patches": PatchSamples(cases, PatchOptions((4, 16, 16)), 1),
        "flat patches": flat,
        "lesions": LesionCentredSamples(cases, lesions, 1),
        "mixture": MixtureSamples([(1, flat), (2, SliceSamples(cases, SliceOptions((16, 16)), 1))], 1),
    }


def digest(sample):
    return [float(sample[key].double().sum()) for key in sorted(sample)] + [list(sample["image"].shape)]


NUMBERS = (0, 1, 5, 17, 1000)


def test_the_same_number_gives_the_same_sample_in_another_process(cases, tmp_path):
    """The other process gets pickled samplers, as a worker does, and asks in another order."""
    made = samplers(cases)
    expected = {name: [digest(samples[i]) for i in NUMBERS] for name, samples in made.items()}
    (tmp_path / "made").write_bytes(pickle.dumps(made))
    code = f"""
import json, pickle, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_training_sampling import digest, NUMBERS
made = pickle.loads(open({str(tmp_path / "made")!r}, "rb").read())
found = {{name: [digest(s[i]) for i in reversed(NUMBERS)][::-1] for name, s in made.items()}}
print(json.dumps(found))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == expected
    assert len((tmp_path / "made").read_bytes()) < 20_000


def test_samples_have_the_contract_s_types_and_differ_from_each_other_and_between_seeds(cases):
    for name, samples in samplers(cases).items():
        found = [samples[i] for i in range(20)]
        for sample in found:
            assert sample["image"].dtype == torch.float32, name
            assert sample["labels"].dtype == torch.int64, name
            assert sample["known"].dtype == torch.bool and sample["known"].shape == (2,), name
            assert sample["image"].shape[1:] == sample["labels"].shape, name
        assert len({str(digest(sample)) for sample in found}) > 5, name
    one, two = (PatchSamples(cases, PatchOptions((4, 16, 16)), seed) for seed in (0, 1))
    assert [digest(one[i]) for i in range(5)] != [digest(two[i]) for i in range(5)]


def test_labels_are_those_of_the_voxels_shown(cases):
    """Channel 1 of the image is the label itself: equal wherever the sample is inside the image (channel 0 > 0)."""
    for name, samples in samplers(cases).items():
        if "warped" in name:
            continue  # its intensities are changed
        for index in range(40):
            sample = samples[index]
            inside = sample["image"][0] > 0
            labelled = bool(sample["known"].any())
            shown = sample["image"][1].long() if labelled else torch.zeros_like(sample["labels"])
            torch.testing.assert_close(sample["labels"][inside], shown[inside])
            outside = -1 if ("patch" in name or "lesion" in name) else 0
            if "mixture" not in name:
                assert (sample["labels"][~inside] == outside).all(), name


def test_every_slice_comes_once_an_epoch_in_an_order_that_changes(cases):
    samples = SliceSamples(cases, SliceOptions(), 0)
    assert len(samples) == 8 + 6 + 5
    epochs = [[float(samples[e * 19 + i]["image"][0].max()) for i in range(19)] for e in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1])
    assert len(set(epochs[0])) > 10
    assert epochs[0] != epochs[1]
    assert samples[0]["image"].shape == (2, 48, 48)
    wide = SliceSamples(cases, SliceOptions(multiple=32), 0)
    assert wide[0]["image"].shape == (2, 64, 64)


def test_slices_with_few_mask_pixels_are_left_out(cases):
    samples = SliceSamples(cases, SliceOptions(minimum_pixels=200), 0)
    assert len(samples) == 4
    assert all((samples[i]["labels"] > 0).sum() > 200 for i in range(8))
    assert len(SliceSamples(cases, SliceOptions(minimum_pixels=99), 0)) == 6
    with pytest.raises(ProstateXferError, match="more than 5000 pixels"):
        SliceSamples(cases, SliceOptions(minimum_pixels=5000), 0)


def within_binomial(count, n, p):
    return abs(count - n * p) <= 4 * np.sqrt(n * p * (1 - p)) + 1


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_slices_with_foreground_is_kept(cases, share):
    """Slices that show something are 6 of 19; they come up by themselves, too."""
    samples = SliceSamples(cases, SliceOptions(foreground_share=share), 3)
    count = sum(bool((samples[i]["labels"] > 0).any()) for i in range(400))
    assert within_binomial(count, 400, share + (1 - share) * 6 / 19)


def test_even_cases_come_up_alike(cases):
    samples = SliceSamples(cases, SliceOptions(foreground_share=0.0, even_cases=True), 3)
    empty = sum(not samples[i]["known"].any() for i in range(400))
    assert within_binomial(empty, 400, 1 / 3)
    plain = SliceSamples(cases, SliceOptions(foreground_share=0.0), 3)
    assert within_binomial(sum(not plain[i]["known"].any() for i in range(400)), 400, 5 / 19)


def test_crops_are_centred_on_what_is_drawn_but_for_the_share_anywhere(cases):
    centred = SliceSamples(cases, SliceOptions((18, 18), foreground_share=1.0, anywhere=0.0), 0)
    # Gland of the first case: rows 12 to 29, columns 10 to 27, exactly the crop.
    assert all((s["labels"] > 0).sum() in (18 * 18, 100) for s in (centred[i] for i in range(30)))
    anywhere = SliceSamples(cases, SliceOptions((18, 18), foreground_share=1.0, anywhere=1.0), 0)
    assert len({int((anywhere[i]["labels"] > 0).sum()) for i in range(30)}) > 10


def test_the_last_third_of_a_batch_is_forced_to_show_foreground(cases):
    for batch, first in ((2, 1), (3, 2), (6, 4), (12, 8), (1, 1)):
        samples = PatchSamples(cases, PatchOptions((4, 8, 8), batch_size=batch), 0)
        assert [samples.forced(i) for i in range(batch)] == [i >= first for i in range(batch)]
    samples = PatchSamples(cases[:2], PatchOptions((4, 8, 8), batch_size=3), 0)
    forced = [bool((samples[i]["labels"] > 0).any()) for i in range(2, 150, 3)]
    free = [bool((samples[i]["labels"] > 0).any()) for i in range(0, 150, 3)]
    assert all(forced)
    assert 0.1 < np.mean(free) < 0.9


def test_a_forced_patch_takes_the_class_first_so_that_a_lesion_of_nine_voxels_comes_every_other_time(cases):
    samples = PatchSamples(cases[:1], PatchOptions((1, 3, 3), batch_size=1, oversample=1.0), 0)
    count = sum(int(samples[i]["labels"][0, 1, 1]) == 2 for i in range(400))
    assert within_binomial(count, 400, 0.5)


def test_patches_reach_beyond_the_image_only_as_far_as_the_final_patch_needs():
    low, high = valid_starts((20, 40, 40), (8, 24, 24), (8, 16, 16))
    assert low.tolist() == [0, -4, -4]
    assert high.tolist() == [12, 20, 20]
    low, high = valid_starts((5, 40, 40), (8, 16, 16), (8, 16, 16))
    assert (low[0], high[0]) == (-1, -1)


def test_small_images_are_padded_with_zero_and_minus_one(cases):
    samples = PatchSamples(cases, PatchOptions((10, 64, 64)), 0)
    for sample in (samples[i] for i in range(6)):
        outside = sample["image"][0] == 0
        assert bool(outside.any())
        assert (sample["labels"][outside] == -1).all()
        assert (sample["labels"][~outside] >= 0).all()


def lesion_case(tmp_path, boxes, shape=(24, 48, 48), name="lesions"):
    labels = np.zeros(shape, np.uint8)
    for box in boxes:
        labels[box] = 2
    return make_case(tmp_path, name, labels)


def test_every_lesion_gives_one_positive_patch_an_epoch(tmp_path):
    boxes = [np.s_[0:2, 0:3, 0:3], np.s_[10:13, 20:24, 20:24], np.s_[20:24, 44:48, 44:48], np.s_[4:6, 40:42, 2:5]]
    case = lesion_case(tmp_path, boxes)
    samples = LesionCentredSamples([case], LesionOptions((8, 12, 12), margin=2, negatives=1.5), 0)
    assert len(samples) == 4 + 6
    voxels = [torch.from_numpy(case.image[0][box].ravel().copy()) for box in boxes]
    for epoch in range(3):
        found = [samples[epoch * 10 + i] for i in range(10)]
        positive = [s for s in found if (s["labels"] == 2).any()]
        assert len(positive) == 4
        shown = [[bool(torch.isin(s["image"][0], lesion).any()) for s in positive] for lesion in voxels]
        assert np.array(shown).sum(1).tolist() == [1, 1, 1, 1]
    order = [[bool((samples[e * 10 + i]["labels"] == 2).any()) for i in range(10)] for e in range(4)]
    assert len({tuple(row) for row in order}) > 1


def test_patches_lie_at_random_in_the_crop_around_the_lesion(tmp_path):
    case = lesion_case(tmp_path, [np.s_[12:13, 24:25, 24:25]], shape=(25, 49, 49))
    samples = LesionCentredSamples([case], LesionOptions((6, 12, 12), margin=0, negatives=0.0), 0)
    places = [np.argwhere((samples[i]["labels"] == 2).numpy())[0] for i in range(300)]
    # A crop of 8 x 16 x 16 leaves 3, 5 and 5 places.
    assert [len(np.unique(axis)) for axis in np.array(places).T] == [3, 5, 5]


def test_a_large_lesion_is_sampled_over_its_whole_box_and_always_shown(tmp_path):
    case = lesion_case(tmp_path, [np.s_[8:10, 2:46, 2:46]])
    samples = LesionCentredSamples([case], LesionOptions((4, 12, 12), margin=4, negatives=0.0), 0)
    assert all((samples[i]["labels"] == 2).any() for i in range(60))


def test_negatives_are_free_of_lesions_and_none_come_from_cases_nobody_looked_at(tmp_path):
    lesions = lesion_case(tmp_path, [np.s_[4:8, 10:14, 10:14]], shape=(12, 32, 32))
    unknown = make_case(tmp_path, "unknown", np.full((12, 32, 32), 1, np.uint8), known=("Prostate",))
    samples = LesionCentredSamples([unknown, lesions], LesionOptions((6, 8, 8), negatives=20), 0)
    negatives = [s for s in (samples[i] for i in range(42)) if not (s["labels"] == 2).any()]
    assert len(negatives) == 40
    assert all(s["known"].all() for s in negatives)
    # All windows of 6 x 8 x 8 at half overlap: 3 x 7 x 7; those that touch the lesion are out.
    assert len({float(s["image"][0, 0, 0, 0]) for s in negatives}) > 10
    with pytest.raises(ProstateXferError, match="No case has a lesion-free window"):
        LesionCentredSamples([lesions], LesionOptions((12, 32, 32)), 0)
    with pytest.raises(ProstateXferError, match="has a lesion"):
        LesionCentredSamples([unknown], LesionOptions((6, 8, 8)), 0)


class Numbered:
    """Samples that are their own number."""

    def __init__(self, name, count):
        self.name, self.count = name, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return (self.name, index)


def test_a_mixture_has_exact_shares_and_asks_each_source_in_a_row():
    mixture = MixtureSamples([(3, Numbered("a", 10)), (1, Numbered("b", 30))], 7)
    assert len(mixture) == 40
    drawn = [mixture[i] for i in range(120)]
    for epoch in range(3):
        counts = collections.Counter(name for name, _ in drawn[epoch * 40 : epoch * 40 + 40])
        assert counts == {"a": 30, "b": 10}
    for name in "ab":
        assert [number for source, number in drawn if source == name] == list(range({"a": 90, "b": 30}[name]))
    assert [n for n, _ in drawn[:40]] != [n for n, _ in drawn[40:80]]
    assert len(MixtureSamples([(1, Numbered("a", 1)), (1, Numbered("b", 1))], 7, samples_per_epoch=5)) == 5
    with pytest.raises(ProstateXferError, match="above 0"):
        MixtureSamples([(0.0, Numbered("a", 1))], 7)


def test_an_augmentation_is_seeded_by_the_number_of_the_sample(cases):
    flat = PatchSamples(cases, PatchOptions((8, 8)), 1)
    seeds = {}

    def record(sample, seed):
        seeds.setdefault(len(seeds), seed)
        return sample

    augmented = AugmentedSamples(flat, record, 5)
    for index in (0, 1, 2, 1):
        augmented[index]
    assert seeds[1] == seeds[3]
    assert len(set(seeds.values())) == 3
    assert len(augmented) == len(flat)


@pytest.mark.parametrize(
    "make",
    [
        lambda: SliceOptions(size_yx=(0, 4)),
        lambda: SliceOptions(foreground_share=1.5),
        lambda: SliceOptions(even_cases=True),
        lambda: PatchOptions((4,)),
        lambda: PatchOptions((4, 4), final_size=(5, 4)),
        lambda: PatchOptions((4, 4), oversample=2.0),
        lambda: PatchSamples([], PatchOptions((4, 4)), 0),
        lambda: LesionOptions((8, 8, 8), crop_zyx=(8, 4, 8)),
        lambda: LesionOptions(negatives=-1.0),
    ],
)
def test_options_that_make_no_sense_are_refused(make):
    with pytest.raises(ProstateXferError):
        make()
