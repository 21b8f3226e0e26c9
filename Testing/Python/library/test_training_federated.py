# SPDX-License-Identifier: Apache-2.0
"""Federated averaging: the weighted mean, exactly; what sites keep; rounds that go on where they were stopped."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ProstateXferLib.checkpoints.card import Score
from ProstateXferLib.checkpoints.file_format import read_checkpoint, write_checkpoint
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.intensity import IntensityRule
from ProstateXferLib.training.exchange.export import export_package
from ProstateXferLib.training.exchange.signature import site_id
from ProstateXferLib.training.federated.averaging import federated_average, local_names
from ProstateXferLib.training.federated.cards import pooled_statistics
from ProstateXferLib.training.federated.packages import average_packages
from ProstateXferLib.training.federated.rounds import RoundOptions, Site, run_rounds
from ProstateXferLib.training.recipe.schema import Chain, Network, Schedule, Source, Stage, Texts

PATIENTS = (30, 30, 19)  # the three sites of the in-domain transfer paper


def state_of(value, *, counter=0):
    return {"layer.weight": torch.tensor([value, 2.0 * value]), "norm.num_batches_tracked": torch.tensor(counter)}


def test_the_mean_of_three_sites_is_weighted_by_their_patients():
    # (30 * 1 + 30 * 2 + 19 * 10) / 79 = 280 / 79
    average = federated_average([state_of(1.0), state_of(2.0), state_of(10.0)], PATIENTS)
    assert average["layer.weight"].tolist() == pytest.approx([280 / 79, 560 / 79], rel=1e-7)
    assert average["layer.weight"].dtype == torch.float32


def test_counters_are_rounded_to_whole_numbers():
    average = federated_average(
        [state_of(0, counter=100), state_of(0, counter=101), state_of(0, counter=103)], PATIENTS
    )
    assert average["norm.num_batches_tracked"].item() == round((30 * 100 + 30 * 101 + 19 * 103) / 79) == 101
    assert average["norm.num_batches_tracked"].dtype == torch.int64


@given(
    values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=5),
    weights=st.lists(st.integers(1, 1000), min_size=5, max_size=5),
    scale=st.floats(0.01, 100),
)
def test_the_mean_lies_between_the_sites_and_only_the_weights_ratio_matters(values, weights, scale):
    states = [{"w": torch.tensor([value], dtype=torch.float64)} for value in values]
    weights = weights[: len(values)]
    average = federated_average(states, weights)["w"].item()
    slack = 1e-9 * (1 + max(map(abs, values)))
    assert min(values) - slack <= average <= max(values) + slack
    assert average == pytest.approx(np.average(values, weights=weights), abs=slack)
    scaled = federated_average(states, [weight * scale for weight in weights])["w"].item()
    assert scaled == pytest.approx(average, abs=slack)


def test_equal_states_average_to_themselves_bit_by_bit():
    state = {"w": torch.randn(50, generator=torch.Generator().manual_seed(0)), "h": torch.randn(3).half()}
    average = federated_average([state, state, state], PATIENTS)
    assert torch.equal(average["w"], state["w"])
    assert torch.equal(average["h"], state["h"])


def test_names_kept_local_are_left_out():
    average = federated_average([state_of(1.0), state_of(2.0)], (1, 1), local={"norm.num_batches_tracked"})
    assert average.keys() == {"layer.weight"}


@pytest.mark.parametrize(
    ("states", "weights", "sentence"),
    [
        ([], [], "average of 0 sites"),
        ([state_of(1.0)], [1, 2], "needs as many weights"),
        ([state_of(1.0), state_of(2.0)], [1, 0], "must be positive"),
        ([state_of(1.0), state_of(2.0)], [1, math.nan], "must be positive"),
        ([state_of(1.0), {"layer.weight": torch.zeros(2)}], [1, 1], "'norm.num_batches_tracked' differs"),
        ([{"w": torch.zeros(2)}, {"w": torch.zeros(3)}], [1, 1], "'w' differs"),
        ([{"w": torch.zeros(2)}, {"w": torch.zeros(2).half()}], [1, 1], "'w' differs"),
        ([state_of(1.0), state_of(math.nan)], [1, 1], "NaN or infinite"),
    ],
)
def test_what_cannot_be_averaged_is_one_sentence(states, weights, sentence):
    with pytest.raises(ProstateXferError, match=sentence):
        federated_average(states, weights)


def test_batch_norms_are_found_by_their_running_statistics_wherever_they_are():
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Sequential(torch.nn.BatchNorm2d(2, affine=False))
    )
    network.append(torch.nn.LayerNorm(2))
    names = network.state_dict().keys()
    statistics = {f"{layer}.{end}" for layer in ("1", "2.0") for end in ("running_mean", "running_var")} | {
        "1.num_batches_tracked",
        "2.0.num_batches_tracked",
    }
    assert local_names(names, "average") == set()
    assert local_names(names, "local_statistics") == statistics
    assert local_names(names, "local") == statistics | {"1.weight", "1.bias"}
    with pytest.raises(ProstateXferError, match="must be one of average, local_statistics, local"):
        local_names(names, "none")


def test_pooled_statistics_are_those_of_everybodys_values_together():
    generator = np.random.default_rng(1)
    sites = [generator.normal(mean, sd, size) for mean, sd, size in ((100, 10, 300), (200, 50, 300), (-5, 1, 190))]
    together = np.concatenate(sites)
    mean, deviation = pooled_statistics([s.mean() for s in sites], [s.std() for s in sites], [s.size for s in sites])
    assert mean == pytest.approx(together.mean())
    assert deviation == pytest.approx(together.std())


@pytest.fixture(scope="module")
def normed_card(synthesis_card):
    """Card of a small network with batch norms, standardised with a training set's mean and deviation."""

    def card(mean=100.0, deviation=20.0, **changes):
        chosen = synthesis_card("T2w")
        rule = IntensityRule("standardise", mean=mean, deviation=deviation)
        return dataclasses.replace(
            chosen, **({"preprocessing": dataclasses.replace(chosen.preprocessing, intensity=rule)} | changes)
        )

    return card


@pytest.fixture(scope="module")
def normed_state(pointwise_state):
    """Its weights: `state(value)` adds `value` to every number that is no counter."""
    start = pointwise_state(encoder=False)

    def state(value=0.0):
        return {name: tensor + value if tensor.is_floating_point() else tensor for name, tensor in start.items()}

    return state


@pytest.fixture
def packages(tmp_path, normed_card, normed_state):
    """Three sites' packages: weights start + 1, + 2, + 10; means and deviations of their own."""
    paths = []
    shared = ({"stage": "start"},)
    for site, value, patients in zip("ABC", (1.0, 2.0, 10.0), PATIENTS, strict=True):
        history = (*shared, {"stage": f"at {site}"})
        card = normed_card(mean=100 * value, history=history, scores=(Score("dice", 0.9, "x", 1),))
        checkpoint = write_checkpoint(tmp_path / f"{site}.safetensors", card, normed_state(value))
        paths.append(tmp_path / f"{site}.pxweights")
        export_package(checkpoint, paths[-1], site=site, patients=patients)
    return paths


def test_three_packages_become_one_checkpoint(packages, normed_state, tmp_path):
    average_packages(packages, tmp_path / "average.safetensors")
    card, state = read_checkpoint(tmp_path / "average.safetensors")
    for name, tensor in normed_state().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(state[name], tensor + 280 / 79, rtol=1e-6, atol=1e-5)
    # mean (30 * 100 + 30 * 200 + 19 * 1000) / 79
    assert card.preprocessing.intensity.mean == pytest.approx(28000 / 79)
    assert card.preprocessing.intensity.deviation > 20
    assert card.scores == ()
    shared, entry = card.history
    assert shared == {"stage": "start"}
    told = {site["site"]: (site["patients"], site["history"][0]["stage"]) for site in entry["sites"]}
    assert told == {site_id(name): (count, f"at {name}") for name, count in zip("ABC", PATIENTS, strict=True)}


def test_the_order_in_which_packages_are_named_does_not_matter(packages, tmp_path):
    average_packages(packages, tmp_path / "average.safetensors")
    average_packages(packages[::-1], tmp_path / "reversed.safetensors")
    assert (tmp_path / "average.safetensors").read_bytes() == (tmp_path / "reversed.safetensors").read_bytes()


def test_a_site_may_keep_its_own_batch_norms_and_intensities(packages, normed_state, tmp_path):
    own = tmp_path / "B.safetensors"
    average_packages(packages, tmp_path / "for-b.safetensors", batch_norm="local", own=own)
    card, state = read_checkpoint(tmp_path / "for-b.safetensors")
    at_b, start = read_checkpoint(own)[1], normed_state()
    norms = local_names(state.keys(), "local")
    assert len(norms) > 20
    assert all(torch.equal(state[name], at_b[name]) for name in norms)
    other = next(name for name in state if name not in norms)
    torch.testing.assert_close(state[other], start[other] + 280 / 79, rtol=1e-6, atol=1e-5)
    assert card.preprocessing.intensity.mean == 200.0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda paths: {"packages": paths[:1]}, "two sites or more"),
        (lambda paths: {"packages": [paths[0], paths[0]]}, "Two packages are of the site"),
        (lambda paths: {"batch_norm": "local"}, "name it"),
        (lambda paths: {"own": paths[0].with_suffix(".safetensors")}, "leave out the checkpoint"),
        (lambda paths: {"key": b"sixteen bytes or more"}, "is not signed"),
        (lambda paths: {"output": paths[0].with_name("average.pt")}, r"must end in \.safetensors"),
    ],
)
def test_packages_that_do_not_make_an_average_are_refused(packages, tmp_path, change, sentence):
    before = sorted(tmp_path.iterdir())
    values = {"packages": packages, "output": tmp_path / "average.safetensors", **change(packages)}
    with pytest.raises(ProstateXferError, match=sentence):
        average_packages(values.pop("packages"), values.pop("output"), **values)
    assert sorted(tmp_path.iterdir()) == before


def test_models_that_do_different_things_are_not_averaged(packages, normed_card, normed_state, tmp_path):
    other = normed_card(inputs=("ADC",))
    checkpoint = write_checkpoint(tmp_path / "D.safetensors", other, normed_state())
    export_package(checkpoint, tmp_path / "D.pxweights", site="D", patients=3)
    with pytest.raises(ProstateXferError, match="differ in 'inputs'"):
        average_packages([packages[0], tmp_path / "D.pxweights"], tmp_path / "average.safetensors")
    other = dataclasses.replace(normed_card().preprocessing, intensity=IntensityRule("zscore"))
    window = normed_card(preprocessing=other)
    checkpoint = write_checkpoint(tmp_path / "E.safetensors", window, normed_state())
    export_package(checkpoint, tmp_path / "E.pxweights", site="E", patients=3)
    with pytest.raises(ProstateXferError, match="preprocessing differs"):
        average_packages([packages[0], tmp_path / "E.pxweights"], tmp_path / "average.safetensors")


SITES = tuple(
    Site(name, Source("cases", path), count) for name, path, count in zip("ABC", ("a", "b", "c"), PATIENTS, strict=True)
)
CHAIN = Chain(
    "toy",
    Texts("toy", "none", "none", ""),
    (Stage("only", "segmentation", {}, Network("smp"), (Source("cases"),), Schedule(1)),),
)
STEP = {"a": 1.0, "b": 2.0, "c": 10.0}


class Trainer:
    """Stands for a training run: adds the site's number to every weight of the checkpoint it starts from."""

    def __init__(self):
        self.runs = []

    def __call__(self, chain, output, progress):
        (stage,) = chain.stages
        card, state = read_checkpoint(stage.start.checkpoint)
        site = stage.data[0].path
        self.runs.append((site, chain.seed))
        state = {name: value + STEP[site] if value.is_floating_point() else value for name, value in state.items()}
        card = dataclasses.replace(card, history=(*card.history, {"stage": site}))
        return write_checkpoint(output, card, state)


@pytest.fixture
def start(tmp_path, normed_card, normed_state):
    return write_checkpoint(tmp_path / "start.safetensors", normed_card(), normed_state())


def test_two_rounds_at_three_sites_move_by_twice_the_weighted_mean(start, tmp_path):
    train = Trainer()
    ends = run_rounds(CHAIN, SITES, start, tmp_path / "run", options=RoundOptions(2), train=train)
    assert len(set(ends.values())) == 1
    before, after = read_checkpoint(start)[1], read_checkpoint(ends["A"])[1]
    name = next(name for name, value in before.items() if value.is_floating_point())
    torch.testing.assert_close(after[name], before[name] + 2 * 280 / 79, rtol=1e-6, atol=1e-5)
    assert train.runs == [("a", 1), ("b", 1), ("c", 1), ("a", 2), ("b", 2), ("c", 2)]


def test_rounds_go_on_where_they_were_stopped(start, tmp_path):
    class Interrupted(Trainer):
        def __call__(self, chain, output, progress):
            if len(self.runs) == 4:
                raise ProstateXferError("The power went.")
            return super().__call__(chain, output, progress)

    with pytest.raises(ProstateXferError, match="power"):
        run_rounds(CHAIN, SITES, start, tmp_path / "run", options=RoundOptions(2), train=Interrupted())
    rest = Trainer()
    ends = run_rounds(CHAIN, SITES, start, tmp_path / "run", options=RoundOptions(2), train=rest)
    assert rest.runs == [("b", 2), ("c", 2)]
    whole = run_rounds(CHAIN, SITES, start, tmp_path / "whole", options=RoundOptions(2), train=Trainer())
    assert ends["A"].read_bytes() == whole["A"].read_bytes()


def test_sites_that_keep_their_batch_norms_end_with_weights_of_their_own(start, tmp_path):
    options = RoundOptions(2, batch_norm="local_statistics")
    ends = run_rounds(CHAIN, SITES, start, tmp_path / "run", options=options, train=Trainer())
    before = read_checkpoint(start)[1]
    statistic = next(iter(sorted(name for name in before if name.endswith("running_var"))))
    shared = next(name for name in before if name not in local_names(before.keys(), "local"))
    for site, name in (("a", "A"), ("b", "B"), ("c", "C")):
        after = read_checkpoint(ends[name])[1]
        torch.testing.assert_close(after[statistic], before[statistic] + 2 * STEP[site])
        torch.testing.assert_close(after[shared], before[shared] + 2 * 280 / 79, rtol=1e-6, atol=1e-5)


def test_a_folder_of_another_run_is_refused(start, tmp_path):
    run_rounds(CHAIN, SITES, start, tmp_path / "run", options=RoundOptions(1), train=Trainer())
    with pytest.raises(ProstateXferError, match="holds rounds with another recipe"):
        run_rounds(CHAIN, SITES[:2], start, tmp_path / "run", options=RoundOptions(1), train=Trainer())


def test_federated_rounds_need_two_sites_and_a_recipe_of_one_stage(start, tmp_path):
    with pytest.raises(ProstateXferError, match="two sites or more"):
        run_rounds(CHAIN, SITES[:1], start, tmp_path, options=RoundOptions(1), train=Trainer())
    two = dataclasses.replace(CHAIN, stages=(*CHAIN.stages, dataclasses.replace(CHAIN.stages[0], name="second")))
    with pytest.raises(ProstateXferError, match="has 2"):
        run_rounds(two, SITES, start, tmp_path, options=RoundOptions(1), train=Trainer())
    with pytest.raises(ProstateXferError, match="0 rounds train nothing"):
        RoundOptions(0)
