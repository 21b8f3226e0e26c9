# SPDX-License-Identifier: Apache-2.0
"""The in-domain transfer study and federated rounds through the real engine, on tiny sites."""

import math

import numpy as np
import pytest
import SimpleITK as sitk

from ProstateXferLib.checkpoints.file_format import read_card, read_checkpoint, write_checkpoint
from ProstateXferLib.cli.main import main
from ProstateXferLib.training.exchange.resume import read_package

pytest.importorskip("lightning_fabric")
pytest.importorskip("monai")

PATIENTS = {"a": 5, "b": 5, "c": 8}


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    """Bright discs in noise; the sites differ in brightness and number of patients."""
    root = tmp_path_factory.mktemp("sites")
    for place, (site, count) in enumerate(PATIENTS.items()):
        for patient in range(count):
            random = np.random.default_rng(100 * place + patient)
            _, y, x = np.indices((2, 64, 64))
            disc = np.hypot(y - random.uniform(28, 36), x - random.uniform(28, 36)) < 14
            image = 200 * (place + 1) + 150 * disc + random.normal(0, 20, disc.shape)
            folder = root / site / f"case_{patient}"
            folder.mkdir(parents=True)
            for name, array in (("t2w", image.astype(np.float32)), ("gland", disc.astype(np.uint8))):
                volume = sitk.GetImageFromArray(array)
                volume.SetSpacing((0.6, 0.6, 3.0))
                sitk.WriteImage(volume, str(folder / f"{name}.nii.gz"))
    return root


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


RECIPE = """
name: federated-toy
texts: {title: toy, training_data: discs, licence: none, citation: ""}
stages:
  - name: round
    task: segmentation
    network: {architecture: mr_dinov3}
    data: [{layout: cases}]
    start: {checkpoint: "START"}
    settings:
      heads: [{name: gland, values: [Prostate]}]
      preprocessing: {intensity: {kind: standardise, mean: 0, deviation: 1}, tile_yx: [64, 64]}
      training_statistics: true
      slices: {size_yx: [64, 64], foreground_share: 0.8}
    split: {rule: nnunet, folds: 5, fold: 0}
    schedule: {epochs: 1, steps_per_epoch: 2}
    loop: {batch_size: 2}
"""


def test_three_sites_train_one_round_each_and_end_with_their_weighted_mean(
    sites, tmp_path, capsys, segmentation_card, random_state
):
    start = write_checkpoint(tmp_path / "start.safetensors", segmentation_card("gland"), random_state(gland=2))
    recipe = tmp_path / "round.yaml"
    recipe.write_text(RECIPE.replace("START", start.as_posix()), encoding="utf-8")
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
