# SPDX-License-Identifier: Apache-2.0
"""An nnU-Net results folder is opened without nnU-Net and without running anything; what is amiss is told."""

import json
import os
import shutil

import pytest
import torch
from model_files.hostile_pickle import Calls
from nnunet_results.folders import LABELS, configuration, random_weights, write_folder
from outcomes.refusal import refusal

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.checkpoints.importers import import_checkpoint
from ProstateXferLib.checkpoints.loading import load_checkpoint
from ProstateXferLib.checkpoints.nnunet_folder import merged_configuration
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.fold_ensemble import FoldEnsemble

IMAGE = torch.linspace(-1, 1, 512).view(1, 1, 8, 8, 8) ** 3


def import_refusal(folder, **hints):
    sentence = refusal(import_checkpoint, folder, folder.parent / "never.safetensors", longest=600, **hints)
    assert not (folder.parent / "never.safetensors").exists()
    return sentence


def run(network):
    with torch.inference_mode():
        return network(IMAGE)


def test_a_folder_and_the_file_made_of_it_are_the_same_network(tmp_path):
    folder = write_folder(tmp_path / "a folder with spaces", weights=random_weights(seed=3))
    opened = load_checkpoint(str(folder))
    imported = load_checkpoint(import_checkpoint(folder, tmp_path / "one.safetensors"))
    assert opened.card == imported.card == ModelCard.from_json(opened.card.to_json())
    assert torch.equal(run(opened.build()), run(imported.build()))
    assert opened.card.preprocessing.nnunet.mirror_axes == (0,)
    assert [structure.name for structure in opened.card.structures] == ["Prostate", "DIL"]


def test_all_numbered_folds_are_taken_and_their_logits_averaged(tmp_path):
    seeds = {"0": 1, "1": 2, "3": 3, "all": 4}
    folder = write_folder(tmp_path / "f", folds=seeds, weights=lambda fold: random_weights(seed=seeds[fold]))
    ensemble = load_checkpoint(import_checkpoint(folder, tmp_path / "several.safetensors"))
    assert ensemble.card.preprocessing.nnunet.folds == ("0", "1", "3")
    network = ensemble.build()
    assert isinstance(network, FoldEnsemble)
    single = [
        load_checkpoint(import_checkpoint(folder, tmp_path / f"{fold}.safetensors", fold=fold)).build()
        for fold in "013"
    ]
    assert torch.allclose(run(network), torch.stack([run(one) for one in single]).mean(dim=0), atol=1e-5)
    assert not torch.allclose(run(single[0]), run(single[1]), atol=1e-2)
    assert load_checkpoint(
        import_checkpoint(folder, tmp_path / "all.safetensors", fold="all")
    ).card.preprocessing.nnunet.folds == ("all",)


def test_another_checkpoint_of_a_fold_can_be_asked_for(tmp_path):
    folder = write_folder(tmp_path / "f", weights=random_weights(seed=1))
    best = write_folder(tmp_path / "g", weights=random_weights(seed=2)) / "fold_0" / "checkpoint_final.pth"
    shutil.copy(best, folder / "fold_0" / "checkpoint_best.pth")
    chosen = import_checkpoint(folder, tmp_path / "best.safetensors", checkpoint="checkpoint_best.pth")
    expected = import_checkpoint(tmp_path / "g", tmp_path / "expected.safetensors")
    assert torch.equal(run(load_checkpoint(chosen).build()), run(load_checkpoint(expected).build()))


def test_what_is_missing_is_named(tmp_path):
    folder = write_folder(tmp_path / "f", folds=("0", "2"))
    assert "no fold_1: its folds are 0, 2" in import_refusal(folder, fold=1)
    assert "fold 0 has checkpoint_final.pth" in import_refusal(folder, checkpoint="checkpoint_best.pth")
    (folder / "fold_2" / "checkpoint_final.pth").unlink()
    assert "fold 2 has no checkpoint" in import_refusal(folder)
    for name in ("dataset.json", "plans.json"):
        (folder / name).unlink()
        assert f"{name} is missing" in import_refusal(folder)


def test_a_folder_that_trained_nothing_yet_says_so(tmp_path):
    assert "training has not written any" in import_refusal(write_folder(tmp_path / "f", folds=()))


def test_a_checkpoint_that_would_run_something_is_refused_and_the_culprit_named(tmp_path):
    folder, marker = write_folder(tmp_path / "f"), tmp_path / "caught"
    file = folder / "fold_0" / "checkpoint_final.pth"
    content = torch.load(file, weights_only=False)  # written by this test a moment ago
    torch.save({**content, "logging": {"x": Calls(os.system, f'echo 1 > "{marker}"')}}, file)
    sentence = import_refusal(folder)
    assert "posix.system" in sentence and "nothing in it was executed" in sentence
    assert not marker.exists()
    with pytest.raises(ProstateXferError, match="system"):
        load_checkpoint(folder)
    assert not marker.exists()


def test_a_configuration_inherits_and_its_own_values_win():
    plans = {
        "configurations": {
            "2d": {"patch_size": [64, 64], "spacing": [0.5, 0.5], "batch_size": 2},
            "2d_896": {"inherits_from": "2d", "patch_size": [896, 896]},
            "2d_finer": {"inherits_from": "2d_896", "spacing": [0.25, 0.25]},
            "loop": {"inherits_from": "pool"},
            "pool": {"inherits_from": "loop"},
        }
    }
    expected = {"patch_size": [896, 896], "spacing": [0.25, 0.25], "batch_size": 2}
    assert merged_configuration(plans, "2d_finer") == expected
    with pytest.raises(ProstateXferError, match="inherits from itself"):
        merged_configuration(plans, "loop")
    with pytest.raises(ProstateXferError, match="'3d' is not there"):
        merged_configuration(plans, "3d")


def test_a_folder_whose_configuration_inherits_is_imported(tmp_path):
    configurations = {"big": configuration(), "3d_fullres": {"inherits_from": "big", "patch_size": [16, 8, 8]}}
    card = load_checkpoint(write_folder(tmp_path / "f", configurations=configurations)).card
    assert card.preprocessing.nnunet.patch == (16, 8, 8) and card.preprocessing.nnunet.spacing_mm == (1, 1, 1)


def test_plans_of_the_first_versions_give_the_same_network(tmp_path):
    weights, new = random_weights(seed=5), configuration()
    old = {key: value for key, value in new.items() if key != "architecture"} | {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 2,
        "unet_max_num_features": 320,
        "n_conv_per_stage_encoder": [1, 1],
        "n_conv_per_stage_decoder": [1],
        "pool_op_kernel_sizes": [[1, 1, 1], [2, 2, 2]],
        "conv_kernel_sizes": [[3, 3, 3], [3, 3, 3]],
    }
    networks = [
        load_checkpoint(write_folder(tmp_path / name, settings, weights=weights)).build()
        for name, settings in (("new", new), ("old", old))
    ]
    assert torch.equal(*map(run, networks))


def test_a_residual_encoder_is_imported(tmp_path):
    settings, weights = configuration(residual=True), random_weights(residual=True, seed=4)
    checkpoint = load_checkpoint(write_folder(tmp_path / "f", settings, weights=weights))
    assert checkpoint.card.architecture == "residual_encoder_unet"
    stored = checkpoint.build().state_dict()
    assert all(torch.equal(stored[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize(
    ("changes", "plans", "words"),
    [
        ({"preprocessor_name": "MyPreprocessor"}, {}, "preprocessor_name 'MyPreprocessor'"),
        ({"resampling_fn_data": "resample_torch_fornnunet"}, {}, "resampling_fn_data 'resample_torch_fornnunet'"),
        ({"normalization_schemes": ["MyNormalization"]}, {}, "normalisation 'MyNormalization'"),
        ({"previous_stage": "3d_lowres"}, {}, "3d_lowres' (a cascade)"),
        ({"patch_size": [7, 8, 8]}, {}, "patch (7, 8, 8) must be 3 multiples of (2, 2, 2)"),
        ({}, {"image_reader_writer": "Tiff3DIO"}, "image_reader_writer 'Tiff3DIO'"),
        ({}, {"transpose_forward": [0, 0, 1]}, "transpose_forward (0, 0, 1)"),
    ],
)
def test_what_would_not_be_reproduced_is_not_imported(tmp_path, changes, plans, words):
    assert words in import_refusal(write_folder(tmp_path / "f", configuration(**changes), **plans))


def test_a_network_of_another_kind_is_not_imported(tmp_path):
    settings = configuration()
    settings["architecture"]["network_class_name"] = "somewhere.Primus"
    assert "'Primus' is not supported" in import_refusal(write_folder(tmp_path / "f", settings))


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        ({"labels": {"background": 0, "a": 1, "b": 3}}, "without a gap"),
        ({"labels": {"background": 0, "a": [1, 2], "b": 2}}, "regions_class_order"),
        ({"channel_names": {"0": "T2", "1": "ADC"}}, "normalise 1 channels"),
        ({"labels": {"background": 0, "a": 1}}, "has shape"),
    ],
)
def test_a_dataset_that_does_not_fit_is_refused(tmp_path, dataset, words):
    assert words in import_refusal(write_folder(tmp_path / "f", dataset=dataset))


def test_an_ignore_label_is_no_class(tmp_path):
    card = load_checkpoint(write_folder(tmp_path / "f", dataset={"labels": {**LABELS, "ignore": 3}})).card
    assert card.heads[0].values == (1, 2)


def test_names_that_the_folder_cannot_tell_can_be_given(tmp_path):
    folder = write_folder(tmp_path / "f")
    hints = {"structures": ["Prostate", "Index lesion"], "inputs": ["ADC"], "name": "mine"}
    card = load_checkpoint(import_checkpoint(folder, tmp_path / "o.safetensors", **hints)).card
    assert (card.name, card.inputs) == ("mine", ("ADC",))
    assert [structure.name for structure in card.structures] == ["Prostate", "Index lesion"]
    assert "3 names were given" in import_refusal(folder, structures=["a", "b", "c"])
    assert "'tile_yx' means nothing" in import_refusal(folder, tile_yx=(8, 8))


def test_a_card_of_another_model_does_not_change(tmp_path):
    card = load_checkpoint(write_folder(tmp_path / "f")).card
    written = json.loads(card.to_json())
    assert "overlapping" not in written["heads"][0]
    written["preprocessing"]["tile_zyx"] = [8, 8, 8]
    with pytest.raises(ProstateXferError, match="excludes tile_zyx"):
        ModelCard.from_json(json.dumps(written))


def test_meddinov3_s_own_folder_is_imported(tmp_path, random_network):
    weights = random_network("mr_dinov3").state_dict()
    settings = configuration(2, patch_size=[32, 48])
    folder = write_folder(tmp_path / "f", settings, weights=weights, name="2d_896", mirror_axes=(0, 1))
    checkpoint = load_checkpoint(import_checkpoint(folder, tmp_path / "m.safetensors", blocks=[0, 1, 2, 3]))
    assert checkpoint.card.architecture == "mr_dinov3" and checkpoint.card.preprocessing.nnunet.patch == (32, 48)
    stored = checkpoint.build().state_dict()
    assert all(torch.equal(stored[name], tensor) for name, tensor in weights.items())
