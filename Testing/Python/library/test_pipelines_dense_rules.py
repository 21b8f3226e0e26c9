# SPDX-License-Identifier: Apache-2.0
"""Dense networks in the Segmenter: files, heads, thresholds, several sequences, mirroring, ensembles, memory."""

import dataclasses
from itertools import product

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from ProstateXferLib.checkpoints.card import Head, ModelCard, Preprocessing
from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.checkpoints.loading import Checkpoint, load_checkpoint
from ProstateXferLib.errors import CancelledError, ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.intensity import IntensityRule, normalize
from ProstateXferLib.images.structures import DIL, PERIPHERAL_ZONE, PROSTATE, TRANSITION_ZONE
from ProstateXferLib.networks.dense import dense_network
from ProstateXferLib.networks.unet_planning import planned_unet
from ProstateXferLib.pipelines import dense_group, dense_logits
from ProstateXferLib.pipelines.provenance import image_sha256
from ProstateXferLib.pipelines.segmenter import Segmenter

GRID = Grid((32, 32, 8), (1.0, 1.0, 2.0), (3.0, -7.0, 11.0))
ZSCORE = IntensityRule("zscore")
WINDOW = IntensityRule("window", -1000.0, 1000.0)
KINDS = {
    "plain 2-D": ("plain_conv_unet", planned_unet((16, 16), (1, 1), channels=1, classes=2, base_features=4)),
    "plain 3-D": ("plain_conv_unet", planned_unet((8, 16, 16), (2, 1, 1), channels=1, classes=2, base_features=4)),
    "residual 3-D": (
        "residual_encoder_unet",
        planned_unet((8, 16, 16), (2, 1, 1), channels=1, classes=2, base_features=4, residual=True),
    ),
    "smp": ("smp", {"architecture": "unet", "encoder": "resnet18", "channels": 1, "classes": 2}),
}


def noise(grid=GRID, seed=0):
    return grid.image(np.random.default_rng(seed).integers(-900, 900, grid.shape_zyx).astype(np.int16))


def array_of(image):
    return sitk.GetArrayFromImage(image)


def card_of(architecture, arguments, *, preprocessing=None, **changes):
    fields = {"structures": (PROSTATE,), "heads": (Head("gland", (PROSTATE.value,)),)} | changes
    return ModelCard(
        name="dense",
        task="segmentation",
        architecture=architecture,
        arguments=arguments,
        preprocessing=Preprocessing(**({"intensity": ZSCORE} | (preprocessing or {}))),
        **fields,
    )


def random_dense(architecture, arguments, seed=0):
    torch.manual_seed(seed)
    network = dense_network(architecture, arguments).eval()
    for name, parameter in network.named_parameters():
        if name.startswith(("decoder.seg_layers", "segmentation_head")):
            parameter.data *= 3  # so that probabilities are not all about one half
    return network


def written(path, card, seed=0):
    return write_checkpoint(path, card, random_dense(card.architecture, card.arguments, seed).state_dict())


def probability(network, image, *, mirrorings=((),)):
    """Of class 1 in a volume that one window holds, by hand."""
    data = torch.from_numpy(normalize(array_of(image), ZSCORE))
    planar = not any(isinstance(module, torch.nn.Conv3d) for module in network.modules())
    batch = data[:, None] if planar else data[None, None]
    with torch.inference_mode():
        logits = [network(batch.flip(axes)).flip(axes) for axes in mirrorings]
    mean = torch.stack(logits).mean(0)
    mean = mean.transpose(0, 1) if planar else mean[0]
    return torch.softmax(mean, 0)[1].numpy()


@pytest.mark.parametrize(("architecture", "arguments"), KINDS.values(), ids=KINDS)
def test_a_file_comes_back_as_a_network_and_gives_its_probabilities(tmp_path, architecture, arguments):
    card = card_of(architecture, arguments)
    path = written(tmp_path / "m.safetensors", card)
    assert load_checkpoint(path).card == card
    image = noise(dataclasses.replace(GRID, size_xyz=(64, 32, 8)))
    found = Segmenter(path, device="cpu").predict(image)
    expected = probability(random_dense(architecture, arguments), image)
    assert np.allclose(array_of(found.probabilities["Prostate"]), expected, atol=1e-5)
    assert np.array_equal(array_of(found.labels), array_of(found.probabilities["Prostate"]) > 0.5)
    assert 0 < array_of(found.labels).mean() < 1
    assert found.provenance.models[0]["name"] == "dense"


ALL_MIRRORINGS = [
    tuple(axis for axis, on in zip((-3, -2, -1), ons, strict=True) if on) for ons in product((0, 1), repeat=3)
]


@pytest.mark.parametrize(
    ("kind", "allowed", "mirrorings"),
    [
        ("plain 2-D", None, [(), (-2,), (-1,), (-2, -1)]),
        ("plain 2-D", ("x",), [(), (-1,)]),
        ("plain 3-D", None, ALL_MIRRORINGS),
        ("plain 3-D", ("z", "x"), [(), (-3,), (-1,), (-3, -1)]),
        ("plain 3-D", (), [()]),
    ],
)
def test_mirroring_averages_logits_over_the_axes_that_the_card_allows(tmp_path, kind, allowed, mirrorings):
    architecture, arguments = KINDS[kind]
    path = written(tmp_path / "m.safetensors", card_of(architecture, arguments, preprocessing={"mirror_axes": allowed}))
    found = Segmenter(path, device="cpu", tta=True).predict(noise())
    expected = probability(random_dense(architecture, arguments), noise(), mirrorings=mirrorings)
    assert np.allclose(array_of(found.probabilities["Prostate"]), expected, atol=1e-5)


def test_what_lies_outside_is_never_skipped(tmp_path):
    path = written(tmp_path / "m.safetensors", card_of(*KINDS["plain 3-D"]))
    maps = [
        array_of(Segmenter(path, device="cpu", skip_outside=skip).predict(noise()).probabilities["Prostate"])
        for skip in (True, False)
    ]
    assert np.array_equal(*maps)


# Ensembles


def test_folds_are_averaged_and_the_study_is_prepared_once(tmp_path, monkeypatch):
    card = card_of(*KINDS["plain 3-D"])
    paths = [written(tmp_path / f"{seed}.safetensors", card, seed) for seed in (0, 1, 2)]
    prepared, original = [], dense_group.prepare_channels
    monkeypatch.setattr(dense_group, "prepare_channels", lambda *given: prepared.append(1) or original(*given))
    found = Segmenter(paths, device="cpu").predict(noise())
    expected = np.mean([probability(random_dense(*KINDS["plain 3-D"], seed), noise()) for seed in (0, 1, 2)], axis=0)
    assert np.allclose(array_of(found.probabilities["Prostate"]), expected, atol=1e-5)
    assert len(prepared) == 1


def test_an_mr_dinov3_and_dense_networks_of_2d_and_3d_are_averaged(tmp_path, random_state, segmentation_card):
    token = write_checkpoint(tmp_path / "t.safetensors", segmentation_card("gland"), random_state())
    dense = [
        written(tmp_path / f"{index}.safetensors", card_of(*KINDS[kind], preprocessing={"tile_" + axes: tile}))
        for index, (kind, axes, tile) in enumerate(
            [("plain 2-D", "yx", (16, 16)), ("plain 3-D", "zyx", (8, 16, 16)), ("residual 3-D", "zyx", (8, 16, 32))]
        )
    ]
    image = noise()
    single = [
        array_of(Segmenter(path, device="cpu").predict(image).probabilities["Prostate"]) for path in [token, *dense]
    ]
    for order in ([token, *dense], [*dense, token]):
        together = Segmenter(order, device="cpu").predict(image)
        assert np.allclose(array_of(together.probabilities["Prostate"]), np.mean(single, axis=0), atol=1e-5)
        assert [model["name"] for model in together.provenance.models] == [load_checkpoint(p).card.name for p in order]
    assert np.ptp(np.stack(single), axis=0).max() > 0.1  # else an average would say nothing


# Heads: made networks whose logits are known


class Lookup(torch.nn.Module):
    """Logits as a function of the channels of every voxel alone."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, image):
        return torch.stack(self.function(*image.unbind(1)), dim=1)


@dataclasses.dataclass(frozen=True)
class Made(Checkpoint):
    network: torch.nn.Module = None

    def build(self):
        return self.network.eval()


def made(function, *, classes, channels=1, dimensions=3, **changes):
    patch = (8, 16, 16)[-dimensions:]
    plan = planned_unet(patch, (2.0, 1.0, 1.0)[-dimensions:], channels=channels, classes=classes, base_features=2)
    card = card_of("plain_conv_unet", plan, **{"preprocessing": {"intensity": WINDOW}, "heads": (), **changes})
    return Segmenter(Made(card, None, "0" * 64, Lookup(function)), device="cpu")


ALL = (PROSTATE, DIL, PERIPHERAL_ZONE, TRANSITION_ZONE)


@pytest.mark.parametrize(("threshold", "limit"), [(None, 0.5), (0.2, 0.2), (0.9, 0.9)])
def test_a_structure_is_there_from_its_threshold_on(threshold, limit):
    heads = (Head("gland", (PROSTATE.value,), threshold=threshold),)
    segmenter = made(lambda v: (torch.zeros_like(v), 4 * v), classes=2, heads=heads)
    image = noise()
    found = segmenter.predict(image)
    expected = 1 / (1 + np.exp(-4 * array_of(image) / 1000))
    assert np.allclose(array_of(found.probabilities["Prostate"]), expected, atol=1e-5)
    probability_map = array_of(found.probabilities["Prostate"])
    decided = probability_map > limit if threshold is None else probability_map >= np.float32(limit)
    assert np.array_equal(array_of(found.labels) == 1, decided)
    assert (array_of(found.labels) == 1).mean() == pytest.approx((expected >= limit).mean(), abs=1e-3)


def test_of_several_structures_over_the_threshold_the_most_probable_one_is_there():
    values = (PERIPHERAL_ZONE.value, TRANSITION_ZONE.value)
    image, scores = noise(), lambda v: (torch.full_like(v, 0.5), v, -v)
    whole = {}
    for threshold in (None, 0.3):
        heads = (Head("zones", values, threshold=threshold),)
        segmenter = made(scores, classes=3, structures=ALL, heads=heads)
        found = segmenter.predict(image)
        whole[threshold] = array_of(found.labels)
        maps = np.stack([array_of(found.probabilities[s.name]) for s in (PERIPHERAL_ZONE, TRANSITION_ZONE)])
        background = 1 - maps.sum(0)
        wins = maps.max(0) > background if threshold is None else maps.max(0) >= threshold
        assert np.array_equal(whole[threshold], np.where(wins, np.array(values)[maps.argmax(0)], 0))
    assert set(np.unique(whole[None])) == {0, *values}
    assert (whole[0.3] > 0).sum() > (whole[None] > 0).sum()


def test_heads_take_their_channels_in_order_and_one_may_work_within_another():
    """Channels: background, prostate; background, DIL. The DIL is dark and only counts in the bright gland's reach."""
    heads = (Head("gland", (1,)), Head("dil", (DIL.value,), within="Prostate", margin_mm=1.5))

    def scores(v):
        return (torch.zeros_like(v), 40 * (v - 0.3), torch.zeros_like(v), 40 * (-0.3 - v))

    array = np.zeros(GRID.shape_zyx, np.int16)
    array[2:6, 8:20, 8:20] = 600
    array[3:5, 12:14, 12:14] = -500  # a hole of four voxels across: each touches the gland
    array[:, 28:, 28:] = -500  # far away
    found = made(scores, classes=4, structures=(PROSTATE, DIL), heads=heads).predict(GRID.image(array))
    expected = np.where(array == 600, 1, 0)
    expected[3:5, 12:14, 12:14] = DIL.value
    assert np.array_equal(array_of(found.labels), expected)
    assert array_of(found.probabilities["DIL"])[0, 30, 30] > 0.99  # found by the network, left out by the rule


# Several sequences


def two_sequences(function=lambda a, b: (0 * a, 40 * (a + b - 0.5)), **changes):
    heads = (Head("gland", (PROSTATE.value,)),)
    return made(function, classes=2, channels=2, heads=heads, **{"inputs": ("T1w", "DWI"), **changes})


def test_both_sequences_reach_the_network_in_the_cards_order():
    first, second = noise(seed=0), noise(seed=1)
    segmenter = two_sequences(lambda a, b: (0 * a, 40 * (a - 2 * b - 0.0003)))
    for given in ({"T1w": first, "DWI": second}, {"DWI": second, "T1w": first, "ADC": noise(seed=2)}):
        found = segmenter.predict(given)
        expected = array_of(first).astype(int) - 2 * array_of(second) >= 1
        assert np.array_equal(array_of(found.labels) == 1, expected)
        assert found.provenance.input_sha256 == {"T1w": image_sha256(first), "DWI": image_sha256(second)}


def test_the_second_sequence_is_brought_through_space_onto_the_firsts_grid(oblique_direction):
    """Both are linear in patient coordinates, which linear interpolation reproduces; outside the second one is 0."""
    size, middle_lps = np.array((20, 16, 12)), GRID.index_to_lps(np.array([20.0, 14.0, 4.0]))
    turned = Grid(tuple(size), (1.1, 1.3, 1.2), (0.0, 0.0, 0.0), oblique_direction)
    other = dataclasses.replace(turned, origin_lps=tuple(middle_lps - turned.index_to_lps((size - 1) / 2)))
    slope_lps = np.array([11.0, -7.0, 5.0])

    def linear(grid):
        indices = np.stack(np.meshgrid(*[np.arange(n) for n in grid.size_xyz], indexing="ij"), axis=-1)
        return (grid.index_to_lps(indices) @ slope_lps).transpose(2, 1, 0)

    seen = []
    segmenter = two_sequences(lambda a, b: (seen.append(b[0]) or 0 * a, a))
    segmenter.predict({"T1w": noise(), "DWI": other.image(linear(other).astype(np.float32))})
    indices = np.stack(np.meshgrid(*[np.arange(n) for n in GRID.size_xyz], indexing="ij"), axis=-1)
    position = other.lps_to_index(GRID.index_to_lps(indices)).transpose(2, 1, 0, 3)
    inside = ((position > 0) & (position < np.array(other.size_xyz) - 1)).all(-1)
    outside = ((position < -0.5) | (position > np.array(other.size_xyz) - 0.5)).any(-1)
    second = seen[-1].numpy()
    assert inside.sum() > 500
    assert np.allclose(second[inside], linear(GRID)[inside] / 1000, atol=1e-4)
    assert outside.sum() > 500
    assert not second[outside].any()


def test_every_sequence_has_its_own_intensity_rule():
    """The first is standardised with the training set's numbers, the second goes from 0 to 1 between percentiles."""
    rules = {
        "intensity": IntensityRule("standardise", mean=100.0, deviation=50.0),
        "further_intensities": (IntensityRule("percentile01", lower_percentile=0, upper_percentile=100),),
    }
    seen = []
    segmenter = two_sequences(lambda a, b: (seen.append((a[0], b[0])) or 0 * a, a), preprocessing=rules)
    first, second = noise(seed=0), noise(seed=1)
    segmenter.predict({"T1w": first, "DWI": second})
    a, b = (tensor.numpy() for tensor in seen[-1])
    assert np.allclose(a, (array_of(first) - 100.0) / 50.0, atol=1e-5)
    values = array_of(second).astype(float)
    assert np.allclose(b, (values - values.min()) / (values.max() - values.min()), atol=1e-6)


def test_a_missing_sequence_and_one_that_lies_elsewhere_are_refused():
    with pytest.raises(ProstateXferError, match="DWI is missing"):
        two_sequences().predict(noise())
    away = noise(dataclasses.replace(GRID, origin_lps=(500.0, 0.0, 0.0)))
    with pytest.raises(ProstateXferError, match="Sequence 2 lies elsewhere than the first one"):
        two_sequences().predict({"T1w": noise(), "DWI": away})


def test_one_rule_counts_for_all_sequences_where_no_others_are_given():
    seen = []
    segmenter = two_sequences(lambda a, b: (seen.append(b[0]) or 0 * a, a), preprocessing={"intensity": ZSCORE})
    segmenter.predict({"T1w": noise(seed=0), "DWI": noise(seed=1)})
    assert float(seen[-1].mean()) == pytest.approx(0, abs=1e-5)
    assert float(seen[-1].std(correction=0)) == pytest.approx(1, abs=1e-5)


# N4


def test_the_bias_field_is_gone_before_the_network_sees_the_image():
    grid = dataclasses.replace(GRID, size_xyz=(64, 64, 8))
    shape = grid.shape_zyx
    tissue = np.zeros(shape)
    tissue[:, 8:-8, 8:-8] = 300.0
    tissue[2:6, 20:44, 20:44] = 400.0
    shaded = tissue * np.linspace(0.7, 1.3, shape[2])
    seen = {}
    for n4 in (False, True):
        kept = []
        segmenter = made(
            lambda v, kept=kept: (kept.append(v[0]) or 0 * v, v),
            classes=2,
            heads=(Head("gland", (1,)),),
            preprocessing={"intensity": WINDOW, "n4": n4},
        )
        segmenter.predict(grid.image(shaded.astype(np.float32)))
        seen[n4] = kept[-1].numpy() * 1000
    spread = {n4: values[tissue == 300].std() / values[tissue == 300].mean() for n4, values in seen.items()}
    assert spread[True] < 0.4 * spread[False]


# How it runs


class Watcher:
    def __init__(self, stop_after=None):
        self.reports, self.warnings, self.stop_after = [], [], stop_after

    def update(self, step, fraction, message=""):
        self.reports.append((step, fraction, message))

    def warn(self, message):
        self.warnings.append(message)

    def cancelled(self):
        return self.stop_after is not None and len(self.reports) >= self.stop_after


TILED = {"tile_zyx": (8, 16, 16)}


def test_progress_grows_to_one_and_names_the_windows(tmp_path):
    card = card_of(*KINDS["plain 3-D"], preprocessing=TILED)
    watcher = Watcher()
    Segmenter([written(tmp_path / f"{n}.safetensors", card, n) for n in (0, 1)], device="cpu").predict(noise(), watcher)
    fractions = [fraction for _, fraction, _ in watcher.reports]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert [message for _, _, message in watcher.reports][:2] == ["window 1 of 9", "window 2 of 9"]
    assert len(fractions) == 2 * 9 + 1


def test_the_user_can_stop_between_windows(tmp_path):
    watcher = Watcher(stop_after=3)
    path = written(tmp_path / "m.safetensors", card_of(*KINDS["plain 3-D"], preprocessing=TILED))
    with pytest.raises(CancelledError):
        Segmenter(path, device="cpu").predict(noise(), watcher)
    assert len(watcher.reports) == 3


def test_when_memory_runs_out_fewer_windows_run_at_once_and_the_result_is_the_same(tmp_path, monkeypatch):
    path = written(tmp_path / "m.safetensors", card_of(*KINDS["plain 3-D"], preprocessing=TILED))
    expected = array_of(Segmenter(path, device="cpu").predict(noise()).probabilities["Prostate"])
    segmenter, watcher = Segmenter(path, device="cpu"), Watcher()
    (network,) = [member.network for member in segmenter.groups[0].members]
    sizes, forward = [], network.forward

    def limited(image):
        sizes.append(len(image))
        if len(image) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(image)

    network.forward = limited
    monkeypatch.setattr(dense_logits, "default_batch_size", lambda device, item_bytes: 4)
    found = segmenter.predict(noise(), watcher)
    assert sizes == [4, 2, 2, 2, 2, 1]
    assert watcher.warnings == ["Memory of cpu ran out: going on with 2 window(s) at a time."]
    assert found.provenance.warnings == tuple(watcher.warnings)
    assert np.allclose(array_of(found.probabilities["Prostate"]), expected, atol=1e-5)


def test_half_precision_runs_in_autocast_and_stays_near(tmp_path):
    path = written(tmp_path / "m.safetensors", card_of(*KINDS["plain 3-D"]))
    exact, rough = (
        array_of(Segmenter(path, device="cpu", precision=precision).predict(noise()).probabilities["Prostate"])
        for precision in ("fp32", "bf16")
    )
    assert 0 < np.abs(exact - rough).mean() < 0.01


def test_values_that_are_not_finite_are_refused():
    segmenter = made(lambda v: (0 * v, v / 0), classes=2, heads=(Head("gland", (1,)),))
    with pytest.raises(ProstateXferError, match="'dense' gave values that are not finite"):
        segmenter.predict(noise())


def test_a_gland_below_one_half_still_has_its_lesions_decoded(tmp_path, threshold_state, segmentation_card):
    """MR-DINOv3 skips lesion tokens away from the gland: away from the gland that its threshold finds."""
    grid = Grid((96, 32, 4), (1.0, 1.0, 3.0))
    array = np.zeros(grid.shape_zyx, np.int16)
    array[:, :, 60:90] = 290  # a faint gland: below the head's 300, its probability a little under one half
    array[1:3, 10:14, 70:74] = -500
    card = segmentation_card("gland", "dil")
    heads = (dataclasses.replace(card.heads[0], threshold=0.3), card.heads[1])
    state = threshold_state(gland=(0.3,), dil=(0.3,), inverted=("dil",))
    path = write_checkpoint(tmp_path / "m.safetensors", dataclasses.replace(card, heads=heads), state)
    labels = [
        array_of(Segmenter(path, device="cpu", skip_outside=skip).predict(grid.image(array)).labels)
        for skip in (True, False)
    ]
    assert np.array_equal(*labels)
    assert (labels[0][1:3, 10:14, 70:74] == DIL.value).all()
