# SPDX-License-Identifier: Apache-2.0
"""A raw data set of cones in nnU-Net's format, and the results folder of folds that held its cases out in turn."""

import json

from ensemble_cases.cones import write_case

from nnunet_results.folders import configuration, random_weights, write_folder

LABELS = {"background": 0, "prostate": 1}
DATA_SET = "Dataset007_Test"


def write_raw(root, *, cases=8, **changes):
    """DATA_SET in `root`, with case0, case1, ...; `changes` are keys of dataset.json."""
    folder = root / DATA_SET
    images, labels = folder / "imagesTr", folder / "labelsTr"
    images.mkdir(parents=True), labels.mkdir()
    for number in range(cases):
        image, reference = write_case(root, f"case{number}", number)
        image.rename(images / f"case{number}_0000.nii.gz")
        reference.rename(labels / f"case{number}.nii.gz")
    about = {"channel_names": {"0": "T2"}, "labels": LABELS, "file_ending": ".nii.gz", **changes}
    (folder / "dataset.json").write_text(json.dumps(about), encoding="utf-8")
    return folder


def in_turn(cases=8, folds=5):
    """Fold -> the cases that it holds out."""
    return {str(fold): [f"case{n}" for n in range(cases) if n % folds == fold] for fold in range(folds)}


def write_trained(root, name="3d_fullres", *, held_out=None, seed=0, validated=True, **options):
    """DATA_SET/nnUNetTrainer__nnUNetPlans__NAME in `root`, a random network for each fold; a cone is one window."""
    held_out = held_out or in_turn()
    folder = write_folder(
        root / DATA_SET / f"nnUNetTrainer__nnUNetPlans__{name}",
        configuration(patch_size=[8, 32, 32], spacing=[3.0, 1.5, 1.5]),
        folds=tuple(held_out),
        weights=lambda fold: random_weights(classes=2, seed=seed + (99 if fold == "all" else int(fold))),
        name=name,
        dataset={"labels": LABELS, **options.pop("dataset", {})},
        **options,
    )
    for fold, cases in held_out.items() if validated else ():
        validation = folder / f"fold_{fold}" / "validation"
        validation.mkdir()
        for file in (*(f"{case}.nii.gz" for case in cases), *(f"{case}.npz" for case in cases), "summary.json"):
            (validation / file).touch()
    return folder


def write_splits(path, held_out):
    """splits_final.json."""
    every = sorted(case for cases in held_out.values() for case in cases)
    folds = [{"train": sorted(set(every) - set(cases)), "val": cases} for cases in held_out.values()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(folds), encoding="utf-8")
    return path
