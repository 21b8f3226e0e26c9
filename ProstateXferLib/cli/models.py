# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer models`: the known models, one model's card, fetching, checking."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ProstateXferLib.cli.exit_codes import ExitCode
from ProstateXferLib.cli.progress import make_progress

if TYPE_CHECKING:
    from ProstateXferLib.checkpoints.loading import Checkpoint
    from ProstateXferLib.checkpoints.registry import KnownModel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which model, and what to do with it."""
    parser.add_argument("model", nargs="?", help="a model's name or a checkpoint file: show its card")
    parser.add_argument("--fetch", action="store_true", help="download the model into the user's models folder")
    parser.add_argument("--validate", action="store_true", help="check the file against its checksums")


def run(args: argparse.Namespace) -> int:
    """List, show, fetch or check."""
    from ProstateXferLib.cli.exit_codes import UsageError

    progress = make_progress(args.json)
    if args.model is None:
        if args.fetch or args.validate:
            raise UsageError("--fetch and --validate need a model's name.")
        return _list(progress)
    if args.fetch:
        _fetch(args.model, progress)
    from ProstateXferLib.checkpoints.loading import load_checkpoint

    checkpoint = load_checkpoint(args.model)
    checked = ""
    if args.validate:
        _validate(checkpoint, args.model)
        checked = "\nThe file is complete and unaltered."
    values = {"path": checkpoint.path, "sha256": checkpoint.sha256, "card": json.loads(checkpoint.card.to_json())}
    progress.result(values, text=card_text(checkpoint) + checked)
    return ExitCode.DONE


def card_text(checkpoint: "Checkpoint") -> str:
    """A card for people."""
    card = checkpoint.card
    lines = [
        f"{card.name}: {card.title}",
        f"  {card.intended_use}",
        f"  file           {checkpoint.path}",
        f"  sha256         {checkpoint.sha256}",
        f"  task           {card.task} ({card.architecture}), from {', '.join(card.inputs) or 'any image'}",
    ]
    if card.structures:
        lines.append(f"  structures     {', '.join(f'{s.value} {s.name}' for s in card.structures)}")
    lines += [
        f"  training data  {card.training_data}",
        f"  licence        {card.licence}",
        f"  citation       {card.citation or 'none'}",
    ]
    lines += [f"  score          {s.metric}, {s.data} (n={s.cases}): {s.value}" for s in card.scores]
    return "\n".join(lines)


def _list(progress: Any) -> int:
    from ProstateXferLib.checkpoints.registry import known_models, models_folders

    models = known_models()
    rows = [(model.name, model.task, _state(model), model.title) for model in models]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
    text = "\n".join(
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]]) for row in rows
    )
    folders = "\n".join(f"  {folder}" for folder in models_folders())
    values = {"models": [{**dataclasses.asdict(model), "state": _state(model)} for model in models]}
    progress.result(values, text=f"{text}\n\nmodels folders, searched in this order:\n{folders}")
    return ExitCode.DONE


def _state(model: "KnownModel") -> str:
    if model.path() is not None:
        return "here"
    return "to fetch" if model.url else "to import"


def _fetch(name: str, progress: Any) -> Path:
    from ProstateXferLib.checkpoints.download import fetch_model
    from ProstateXferLib.checkpoints.registry import known_models
    from ProstateXferLib.errors import ProstateXferError

    model = next((item for item in known_models() if item.name == name), None)
    if model is None:
        raise ProstateXferError(f"There is no model named '{name}' to fetch: list them with prostatexfer models")
    return model.path() or fetch_model(model, progress)


def _validate(checkpoint: "Checkpoint", name: str) -> None:
    from ProstateXferLib.checkpoints.file_format import validate_checkpoint
    from ProstateXferLib.checkpoints.registry import known_models
    from ProstateXferLib.errors import ProstateXferError

    if checkpoint.path.is_dir():
        raise ProstateXferError(
            f"'{checkpoint.path}' is an nnU-Net folder, which has no checksums: make one file of it, which has them "
            "(prostatexfer import)."
        )
    validate_checkpoint(checkpoint.path)
    known = next((item for item in known_models() if item.name == name), None)
    if known is not None and known.sha256 and known.sha256 != checkpoint.sha256:
        raise ProstateXferError(
            f"'{checkpoint.path}' has sha256 {checkpoint.sha256[:12]}…, the registry expects {known.sha256[:12]}… for "
            f"'{name}': get the file again."
        )
