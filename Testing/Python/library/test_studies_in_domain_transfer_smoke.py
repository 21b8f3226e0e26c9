# SPDX-License-Identifier: Apache-2.0
"""The in-domain transfer study and federated rounds through the real engine, on tiny sites."""

import math

import numpy as np
import pytest
from federated_discs.recipes import segmentation_round
from federated_discs.sites import write_sites
from training_runs.command import write_recipe

from ProstateXferLib.checkpoints.file_format import read_card, read_checkpoint, write_checkpoint
from ProstateXferLib.cli.main import main
from ProstateXferLib.training.exchange.resume import read_package

pytest.importorskip("lightning_fabric")
pytest.importorskip("monai")

PATIENTS = {"a": 5, "b": 5, "c": 8}


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    """Bright discs in noise; the sites differ in brightness and number of patients."""
    return write_sites(tmp_path_factory.mktemp("sites"), PATIENTS)


def words(*sites, data):
    return [word for site in sites for word in ("--site", f"{site}=cases:{site.lower()}")] + ["--data", str(data)]


@pytest.mark.slow
def test_a_short_study_trains_transfers_and_prints_its_tables(sites, tmp_path, capsys):
    pytest.importorskip("segmentation_models_pytorch")
    folder = tmp_path / "study"
    arguments = [*words("A", "B", data=sites), "-o", str(folder), "--device", "cpu"]
    arguments += ["--folds", "2", "--epochs", "1", "--longest", "1", "--no-merged", "--encoder-weights", "none"]
    arguments += ["--architecture", "unet", "--encoder", "resnet18"]
    for change in (
        "settings.preprocessing.n4=false",
        "settings.slices={size_yx: [64, 64], minimum_pixels: 200}",
        "loop.batch_size=4",
        "loop.validate_epochs=1",
    ):
        arguments += ["--set", f"stages.target.{change}"]
    assert main(["study", "in-domain-transfer", *arguments]) == 0
    told = capsys.readouterr().out
    assert "| source | → A | → B |" in told
    assert "91.42 / 84.89" in told  # the paper's A -> B
    assert told.strip() in (folder / "tables.md").read_text(encoding="utf-8")
    card = read_card(folder / "routes" / "A-B" / "fold-0.safetensors")
    assert (card.architecture, len(card.history)) == ("smp", 2)
    assert card.history[1]["start"]["sha256"]
    # Each site's own statistics: site a lies around 200 to 350, site b around 400 to 550.
    first = read_card(folder / "routes" / "A" / "fold-0.safetensors").preprocessing.intensity
    assert 200 < first.mean < 270
    assert 400 < card.preprocessing.intensity.mean < 470
    assert all(math.isfinite(score.value) for score in card.scores)


def test_three_sites_train_one_round_each_and_end_with_their_weighted_mean(
    sites, tmp_path, capsys, segmentation_card, random_state
):
    start = write_checkpoint(tmp_path / "start.safetensors", segmentation_card("gland"), random_state(gland=2))
    values = segmentation_round(data=[{"layout": "cases"}], start={"checkpoint": str(start)})
    recipe = write_recipe(tmp_path / "round.yaml", values)
    folder = tmp_path / "run"
    arguments = [*words("A", "B", "C", data=sites), "-o", str(folder), "--start", str(start), "--rounds", "1"]
    assert main(["federate", "rounds", str(recipe), *arguments, "--device", "cpu"]) == 0
    assert "6 patients" in capsys.readouterr().out  # 8 of site C less the 2 of the validation fold
    packages = [read_package(folder / "round-01" / f"{site}.pxweights") for site in "ABC"]
    assert [record.patients for _, _, record in packages] == [4, 4, 6]
    before, (card, after) = read_checkpoint(start)[1], read_checkpoint(folder / "round-01" / "average.safetensors")
    moved = 0
    for name in after:
        sums = [weight * state[name].double() for weight, (_, state, _) in zip((4, 4, 6), packages, strict=True)]
        np.testing.assert_allclose(after[name].double(), sum(sums) / 14, rtol=1e-6, atol=1e-7)
        moved += not np.array_equal(after[name], before[name])
    assert moved > 10
    means = [state_card.preprocessing.intensity.mean for state_card, _, _ in packages]
    assert card.preprocessing.intensity.mean == pytest.approx(np.average(means, weights=(4, 4, 6)))
    assert sorted(site["patients"] for site in card.history[-1]["sites"]) == [4, 4, 6]
