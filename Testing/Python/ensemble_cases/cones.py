# SPDX-License-Identifier: Apache-2.0
"""Images whose intensity falls from a centre by a constant a millimetre, so that a threshold is a radius.

A model that compares with the threshold t (the fixture `threshold_state`) says sigmoid(8 (v - t)) of an intensity v,
and finds the sphere of radius `radius_mm(t)`. The mean of two models at t - d and t + d is one half exactly where v is
t, by probability and by logit: one that finds too much and one that finds too little are right together.
"""

import csv
import dataclasses

import numpy as np
from made_images.grids import voxel_centres_lps

from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import write_image

GRID = Grid((32, 32, 8), (1.5, 1.5, 3.0), (10.0, -20.0, 30.0))
TRUE_THRESHOLD = 0.3
_AT_CENTRE, _PER_MM = 0.9, 0.05


def radius_mm(threshold):
    """Of the sphere that a model with this threshold finds."""
    return (_AT_CENTRE - threshold) / _PER_MM


def distances_mm(seed):
    """(z, y, x) distance of every voxel from the case's centre."""
    offset_mm = np.random.default_rng(seed).uniform(-2, 2, 3)
    centre_lps = GRID.index_to_lps((np.array(GRID.size_xyz) - 1) / 2) + offset_mm
    return np.linalg.norm(voxel_centres_lps(GRID) - centre_lps, axis=-1)


def write_case(folder, name, seed):
    """(image, reference): the reference's radius differs a little from case to case."""
    far_mm = distances_mm(seed)
    values = 1000 * (_AT_CENTRE - _PER_MM * far_mm)
    radius = radius_mm(TRUE_THRESHOLD) + np.random.default_rng(100 + seed).uniform(-0.4, 0.4)
    image = write_image(GRID.image(np.clip(values, -900, 900).astype(np.float32)), folder / f"{name}.nii.gz")
    return image, write_image(GRID.image((far_mm <= radius).astype(np.uint8)), folder / f"{name}-gland.nii.gz")


def write_model(path, state, card, threshold, **changes):
    """A checkpoint of that threshold, named like its file."""
    card = dataclasses.replace(card, name=path.stem, **changes)
    return write_checkpoint(path, card, state(gland=(threshold,)))


def write_cone_plan(folder, candidates, state, card, *, cases=10):
    """plan.csv in the folder; `candidates`: name -> thresholds of its folds, which take the cases in turn."""
    files = {f"case{n}": write_case(folder, f"case{n}", n) for n in range(cases)}
    models = {
        name: [
            write_model(folder / f"{name}-{fold}.safetensors", state, card, threshold)
            for fold, threshold in enumerate(thresholds)
        ]
        for name, thresholds in candidates.items()
    }
    with (folder / "plan.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["candidate", "model", "case", "image", "reference"])
        for name, folds in models.items():
            for number, (case, (image, reference)) in enumerate(files.items()):
                writer.writerow([name, folds[number % len(folds)].name, case, image.name, reference.name])
    return folder / "plan.csv"
