# SPDX-License-Identifier: Apache-2.0
"""Runs `prostatexfer train` on a recipe, and reads its log."""

import json

from ProstateXferLib.cli.main import main


def write_recipe(path, recipe):
    """The recipe, given as plain values, as a file."""
    import yaml

    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def train(folder, recipe, *words, data=None, name="made.safetensors"):
    """(exit code, path of the checkpoint in the folder) of `prostatexfer train` on the CPU.

    `recipe`: values of one of ours, or the name of one that comes with the library; `data`: the folder, unless given.
    """
    given = recipe if isinstance(recipe, str) else str(write_recipe(folder / "recipe.yaml", recipe))
    output = folder / name
    return main(["train", given, "-o", str(output), "--data", str(data or folder), "--device", "cpu", *words]), output


def log_of(output):
    """The entries of the log of a run of one stage, by the path of its checkpoint."""
    (log,) = output.with_suffix(".run").rglob("metrics.jsonl")
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def logged(output, part):
    """The entries of the log that have a key with this part."""
    return [entry for entry in log_of(output) if any(part in key for key in entry)]
