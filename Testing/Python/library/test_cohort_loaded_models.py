# SPDX-License-Identifier: Apache-2.0
"""A model stays loaded from one case to the next, until a file that it is made of changes."""

import os

import pytest
from nnunet_results.folders import random_weights, write_folder

from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.cohort.loaded_models import LoadedModels
from ProstateXferLib.cohort.options import StudyOptions, Task
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.pipelines.ensemble import make_ensemble


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def options(folder, model):
    return StudyOptions(tasks=(Task.PROSTATE,), prostate_model=model, models_folder=folder, device="cpu")


def touch(path):
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1_000_000))


@pytest.mark.parametrize("file", ["plans.json", "dataset.json", "fold_1/checkpoint_final.pth"])
def test_an_nnunet_folder_is_loaded_again_when_any_of_its_files_has_changed(folder, file):
    path = write_folder(folder / "nnunet", folds=("0", "1"))
    models, asked = LoadedModels(), options(folder, "nnunet")
    first = models.checkpoint(Task.PROSTATE, asked)
    assert models.checkpoint(Task.PROSTATE, asked) is first
    assert models.segmenter(Task.PROSTATE, asked) is models.segmenter(Task.PROSTATE, asked)
    touch(path / file)
    again = models.checkpoint(Task.PROSTATE, asked)
    assert again is not first and again == first


def test_other_weights_in_an_nnunet_folder_are_another_model(folder, tmp_path):
    path = write_folder(folder / "nnunet", weights=random_weights(seed=1))
    other = write_folder(tmp_path / "elsewhere", weights=random_weights(seed=2))
    models, asked = LoadedModels(), options(folder, "nnunet")
    first, segmenter = models.checkpoint(Task.PROSTATE, asked), models.segmenter(Task.PROSTATE, asked)
    (other / "fold_0" / "checkpoint_final.pth").replace(path / "fold_0" / "checkpoint_final.pth")
    assert models.checkpoint(Task.PROSTATE, asked).sha256 != first.sha256
    assert models.segmenter(Task.PROSTATE, asked) is not segmenter


@pytest.fixture
def ensemble(folder, threshold_state, segmentation_card):
    """Two files, and the ensemble of both."""
    files = [
        write_checkpoint(
            folder / f"{name}.safetensors", segmentation_card("gland", name=name), threshold_state(gland=(limit,))
        )
        for name, limit in (("dark", 0.2), ("bright", 0.6))
    ]
    return make_ensemble(folder / "both.safetensors", files)


def test_an_ensemble_is_loaded_again_when_a_member_has_changed(folder, ensemble):
    models, asked = LoadedModels(), options(folder, "both")
    first = models.checkpoint(Task.PROSTATE, asked)
    assert first == ensemble
    assert models.checkpoint(Task.PROSTATE, asked) is first
    segmenter = models.segmenter(Task.PROSTATE, asked)
    assert [item.card.name for item in segmenter.checkpoints] == ["dark", "bright"]
    touch(folder / "dark.safetensors")
    again = models.checkpoint(Task.PROSTATE, asked)
    assert again is not first and again == first


def test_an_ensemble_whose_member_was_altered_or_lost_is_refused(folder, ensemble):
    models, asked = LoadedModels(), options(folder, "both")
    models.load(asked)
    file = folder / "bright.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ProstateXferError, match="'bright' of the ensemble 'both' is not the file it was chosen with"):
        models.checkpoint(Task.PROSTATE, asked)
    file.unlink()
    with pytest.raises(ProstateXferError, match="'bright' .* of the ensemble 'both' is not on this machine"):
        models.segmenter(Task.PROSTATE, asked)


def test_members_are_looked_for_in_the_folder_that_was_given(folder, ensemble, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    alone = ensemble.path.rename(elsewhere / "both.safetensors")
    models = LoadedModels()
    segmenter = models.segmenter(Task.PROSTATE, options(folder, alone))
    assert [item.path for item in segmenter.checkpoints] == [folder / "dark.safetensors", folder / "bright.safetensors"]
