# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer models`: what there is and what is here, one model's card, fetching, checking."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ProstateXferLib.cli.exit_codes import ExitCode
from ProstateXferLib.cli.progress import make_progress

if TYPE_CHECKING:
    from ProstateXferLib.checkpoints.card import ModelCard
    from ProstateXferLib.checkpoints.loading import Checkpoint
    from ProstateXferLib.checkpoints.registry import KnownModel
    from ProstateXferLib.cohort.model_choice import ModelOption


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which model, and what to do with it."""
    parser.add_argument(
        "model", nargs="?", help="a model's name, a checkpoint file or an nnU-Net folder: show its card"
    )
    parser.add_argument("--fetch", action="store_true", help="download the model into the user's models folder")
    parser.add_argument("--validate", action="store_true", help="check the file (and an ensemble's members') checksums")
    parser.add_argument("--models-folder", type=Path, metavar="FOLDER", help="search this folder for models first")


def run(args: argparse.Namespace) -> int:
    """List, show, fetch or check."""
    from ProstateXferLib.cli.exit_codes import UsageError

    progress = make_progress(args.json)
    folder = args.models_folder
    if folder is not None and not folder.expanduser().is_dir():
        raise UsageError(f"The models folder '{folder}' does not exist: choose another one or none.")
    if args.model is None:
        if args.fetch or args.validate:
            raise UsageError("--fetch and --validate need a model's name.")
        return _list(progress, folder)
    if args.fetch:
        _fetch(args.model, progress)
    from ProstateXferLib.checkpoints.loading import load_checkpoint

    checkpoint = load_checkpoint(args.model, folder)
    members = _members(checkpoint.card, checkpoint.path, folder)
    checked = f"\n{_validated(checkpoint, args.model, members, folder)}" if args.validate else ""
    values = {"path": checkpoint.path, "sha256": checkpoint.sha256, "card": json.loads(checkpoint.card.to_json())}
    if members:
        values["members"] = members
    progress.result(values, text="\n".join([card_text(checkpoint), *_member_lines(members)]) + checked)
    return ExitCode.DONE


def card_text(checkpoint: "Checkpoint") -> str:
    """A card for people."""
    from ProstateXferLib.checkpoints.ensemble_card import average_of, is_ensemble

    card = checkpoint.card
    lines = [
        f"{card.name}: {card.title}",
        f"  {card.intended_use}",
        f"  file           {checkpoint.path}",
        f"  sha256         {checkpoint.sha256}",
        f"  task           {card.task} ({card.architecture}), from {', '.join(card.inputs) or 'any image'}",
    ]
    if is_ensemble(card):
        lines.append(f"  average        {average_of(card)}")
    if card.structures:
        lines.append(f"  structures     {', '.join(f'{s.value} {s.name}' for s in card.structures)}")
    lines += [
        f"  training data  {card.training_data}",
        f"  licence        {card.licence}",
        f"  citation       {card.citation or 'none'}",
    ]
    lines += [f"  score          {s.metric}, {s.data} (n={s.cases}): {s.value}" for s in card.scores]
    lines += [
        f"  calibrated     {c.structure}, temperature {c.temperature:.2f} on {c.cases} cases ({c.data})"
        for c in card.calibration
    ]
    return "\n".join(lines)


def _list(progress: Any, folder: Path | None) -> int:
    """The registry's models, then what else lies in the models folders."""
    from ProstateXferLib.checkpoints.registry import known_models, models_folders
    from ProstateXferLib.cohort.model_choice import loose_options

    known = [_known(model, folder) for model in known_models(folder)]
    models = [*known, *(_loose(option, folder) for option in loose_options(folder))]
    widths = [max((len(model[key]) for model in models), default=0) for key in ("name", "task", "state")]
    lines = [line for model in models for line in _model_lines(model, widths)]
    folders = [f"  {place}" for place in models_folders(folder)]
    text = "\n".join([*lines, "", "models folders, searched in this order:", *folders])
    progress.result({"models": models}, text=text)
    return ExitCode.DONE


def _known(model: "KnownModel", folder: Path | None) -> dict[str, Any]:
    from ProstateXferLib.cohort.model_choice import option_at

    path, state, reason, members = model.path(folder), "to fetch" if model.url else "to import", None, []
    if path is not None:
        option = option_at(path, model.name, folder)
        state, reason = option.state, option.reason
        members = _members(option.card, path, folder) if option.card else []
    return {**dataclasses.asdict(model), "state": state, "path": path, "reason": reason, "members": members}


def _loose(option: "ModelOption", folder: Path | None) -> dict[str, Any]:
    """A model that no registry lists, in the words of one that a registry does."""
    card = option.card
    of_card = {name: getattr(card, name) if card else "" for name in ("task", "licence", "citation")}
    unknown = dict.fromkeys(("sha256", "url", "obtain"))
    own = {"name": option.name, "title": option.title, "file": option.path.name, **of_card, **unknown}
    members = _members(card, option.path, folder) if card else []
    return {**own, "state": option.state, "path": option.path, "reason": option.reason, "members": members}


def _model_lines(model: dict[str, Any], widths: list[int]) -> list[str]:
    columns = [model[key].ljust(width) for key, width in zip(("name", "task", "state"), widths, strict=True)]
    told = model["title"] if model["reason"] is None or model["members"] else f"{model['title']}: {model['reason']}"
    return ["  ".join([*columns, told]), *_member_lines(model["members"])]


def _members(card: "ModelCard", path: Path, folder: Path | None) -> list[dict[str, Any]]:
    """The members of an ensemble: name, sha256, weight, file, path (None where it was not found) and why."""
    from ProstateXferLib.checkpoints.ensemble_card import is_ensemble, members_of
    from ProstateXferLib.checkpoints.ensemble_members import find_member_path
    from ProstateXferLib.errors import ProstateXferError

    found = []
    for member in members_of(card) if is_ensemble(card) else ():
        place, reason = None, None
        try:
            place = find_member_path(member, card, path, folder)
        except ProstateXferError as error:
            reason = str(error)
        found.append({**dataclasses.asdict(member), "path": place, "reason": reason})
    return found


def _member_lines(members: list[dict[str, Any]]) -> list[str]:
    return [
        f"  member         {member['weight']:.3f}  {member['name']}: {member['path'] or member['reason']}"
        for member in members
    ]


def _fetch(name: str, progress: Any) -> Path:
    from ProstateXferLib.checkpoints.download import fetch_model
    from ProstateXferLib.checkpoints.registry import known_models
    from ProstateXferLib.errors import ProstateXferError

    model = next((item for item in known_models() if item.name == name), None)
    if model is None:
        raise ProstateXferError(f"There is no model named '{name}' to fetch: list them with prostatexfer models")
    return model.path() or fetch_model(model, progress)


def _validated(checkpoint: "Checkpoint", name: str, members: list[dict[str, Any]], folder: Path | None) -> str:
    """Check every byte against the checksums; what to tell when all is well."""
    from ProstateXferLib.checkpoints.file_format import validate_checkpoint
    from ProstateXferLib.checkpoints.registry import known_models
    from ProstateXferLib.errors import ProstateXferError

    if checkpoint.path.is_dir():
        raise ProstateXferError(
            f"'{checkpoint.path}' is an nnU-Net folder, which has no checksums: make one file of it, which has them "
            "(prostatexfer import)."
        )
    validate_checkpoint(checkpoint.path)
    known = next((item for item in known_models(folder) if item.name == name), None)
    if known is not None and known.sha256 and known.sha256 != checkpoint.sha256:
        raise ProstateXferError(
            f"'{checkpoint.path}' has sha256 {checkpoint.sha256[:12]}…, the registry expects {known.sha256[:12]}… for "
            f"'{name}': get the file again."
        )
    for member in members:
        if member["path"] is None:
            raise ProstateXferError(member["reason"])
        if member["path"].is_file():  # an nnU-Net folder was found by the sha256 of all its files
            validate_checkpoint(member["path"])
    return f"The file{f' and its {len(members)} members are' if members else ' is'} complete and unaltered."
