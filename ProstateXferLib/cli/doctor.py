# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer doctor`: what is installed, what is missing, and what to do about it."""

import argparse
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ProstateXferLib.cli.exit_codes import ExitCode
from ProstateXferLib.cli.packages import OPTIONAL, REQUIRED, Package
from ProstateXferLib.cli.progress import make_progress
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import file_sha256
from ProstateXferLib.resources_dir import resources_dir
from ProstateXferLib.version import __version__

if TYPE_CHECKING:
    from ProstateXferLib.checkpoints.registry import KnownModel

OLDEST_PYTHON = (3, 11)
GIB = 2**30
_UNREGISTERED = "not in the registry"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing to choose: the doctor looks at everything."""


def run(args: argparse.Namespace) -> int:
    """Print the findings; `FAILED` when something that every command needs is missing."""
    progress = make_progress(args.json)
    findings = examine()
    progress.result(findings, text=as_text(findings))
    return ExitCode.FAILED if findings["problems"] else ExitCode.DONE


def examine() -> dict[str, Any]:
    """All findings; `problems` has one sentence for each thing that must be put right."""
    problems: list[str] = []
    if sys.version_info < OLDEST_PYTHON:
        problems.append(f"Python {platform.python_version()} is too old: install Python 3.11 or newer.")
    packages = [_package(package) for package in REQUIRED + OPTIONAL]
    problems += [package.advice() for package in REQUIRED if package.installed_version() is None]
    devices = torch_devices(problems)
    models, folder = _models(problems)
    return {
        "version": __version__,
        "python": {
            "version": platform.python_version(),
            "executable": sys.executable,
            "platform": platform.platform(),
        },
        "packages": packages,
        "devices": devices,
        "resources": folder,
        "models": models,
        "problems": problems,
    }


def torch_devices(problems: list[str]) -> list[dict[str, Any]]:
    """The devices PyTorch can compute on, with memory in GiB and whether bfloat16 is fast there.

    A PyTorch that is installed but does not load (a missing system library, say) becomes one of the `problems`.
    """
    try:
        import torch
    except ModuleNotFoundError:
        return []  # already among the problems, with what to do
    except (ImportError, OSError) as error:
        problems.append(f"PyTorch is installed but does not load ({error}): install it again.")
        return []
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    found = [
        {
            "device": "cpu",
            "name": capabilities.get("cpu_name") or platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "memory_gib": _ram_gib(),
            "fast_bf16": bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")),
        }
    ]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found.append(
            {
                "device": f"cuda:{index}",
                "name": properties.name,
                "cores": properties.multi_processor_count,
                "memory_gib": properties.total_memory / GIB,
                # Ampere (compute capability 8) is the first generation with bfloat16 in hardware.
                "fast_bf16": properties.major >= 8,
            }
        )
    if torch.backends.mps.is_available():
        memory_gib = torch.mps.recommended_max_memory() / GIB
        found.append(
            {"device": "mps", "name": "Apple GPU", "cores": None, "memory_gib": memory_gib, "fast_bf16": False}
        )
    return found


def find_models() -> list[dict[str, Any]]:
    """The models of the registry, then the checkpoints and nnU-Net folders in the models folders that it does not know.

    `state` is "whole" (the file has the sha256 on record), "damaged", "not on this machine", "to be imported" (weights
    that only the user may get), "not in the registry" or, of an nnU-Net folder, "cannot be opened".
    """
    from ProstateXferLib.checkpoints.file_format import SUFFIX
    from ProstateXferLib.checkpoints.loose_models import loose_models
    from ProstateXferLib.checkpoints.registry import known_models, models_folders

    found = [_known_model(model) for model in known_models()]
    registered = {model["file"] for model in found}
    # Not `loose_models`: it passes over a second file under a registered name, which is what a check has to show.
    loose = [path for folder in models_folders() for path in sorted(folder.glob(f"*{SUFFIX}"))]
    found += [
        {"name": path.stem, "file": path, "sha256": file_sha256(path), "state": _UNREGISTERED, "advice": ""}
        for path in loose
        if path not in registered
    ]
    return found + [_nnunet(model.name, model.path) for model in loose_models() if model.path.is_dir()]


def as_text(findings: Mapping[str, Any]) -> str:
    """The findings as a person reads them, problems last."""
    python = findings["python"]
    lines = [
        f"ProstateXfer {findings['version']}",
        f"Python {python['version']} ({python['executable']}) on {python['platform']}",
        "",
        "Packages",
        *(_package_line(package) for package in findings["packages"]),
        "",
        "Devices",
        *(_device_line(device) for device in findings["devices"]),
        "",
        f"Models (those shipped are in {findings['resources'] or 'no folder'})",
        *(_model_line(model) for model in findings["models"]),
        "",
    ]
    problems = findings["problems"]
    lines += ["What to put right", *(f"  {problem}" for problem in problems)] if problems else ["All is well."]
    return "\n".join(lines)


def _package(package: Package) -> dict[str, Any]:
    return {
        "name": package.distribution,
        "version": package.installed_version(),
        "needed_for": package.needed_for or "everything",
    }


def _known_model(model: "KnownModel") -> dict[str, Any]:
    path = model.path()
    sha256 = None if path is None else file_sha256(path)
    state, advice = "whole", ""
    if path is None and model.file is None:
        state, advice = "to be imported", model.obtain or ""
    elif path is None:
        state = "not on this machine"
        advice = f"prostatexfer models --fetch {model.name}" if model.url else (model.obtain or "")
    elif sha256 != model.sha256:
        state, advice = "damaged", f"remove {path} and get it again"
    return {"name": model.name, "file": path, "sha256": sha256, "state": state, "advice": advice}


def _nnunet(name: str, path: Path) -> dict[str, Any]:
    """A results folder; its sha256 is that of the files that the model is made of (`nnunet_sha256`)."""
    from ProstateXferLib.checkpoints.ensemble_members import content_sha256
    from ProstateXferLib.checkpoints.import_nnunet import nnunet_card

    try:
        nnunet_card(path)
        sha256, state, advice = content_sha256(path), _UNREGISTERED, ""
    except ProstateXferError as error:
        sha256, state, advice = None, "cannot be opened", str(error)
    return {"name": name, "file": path, "sha256": sha256, "state": state, "advice": advice}


def _models(problems: list[str]) -> tuple[list[dict[str, Any]], Path | None]:
    try:
        folder = resources_dir()
        models = find_models()
    except ProstateXferError as error:
        problems.append(str(error))
        return [], None
    except ModuleNotFoundError:  # one of the packages above, already among the problems
        return [], folder
    problems += [
        f"The model {model['name']} is damaged (its sha256 is not the one on record): {model['advice']}."
        for model in models
        if model["state"] == "damaged"
    ]
    if not any(model["file"] for model in models):
        problems.append(f"There is no model on this machine, nor in {folder / 'Models'}: install ProstateXfer again.")
    return models, folder


def _ram_gib() -> float | None:
    """The machine's memory; None where the system does not tell (Windows)."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    except (AttributeError, ValueError, OSError):
        return None


def _package_line(package: Mapping[str, Any]) -> str:
    return f"  {package['name']:<12} {package['version'] or 'not installed':<16} for {package['needed_for']}"


def _device_line(device: Mapping[str, Any]) -> str:
    memory = "" if device["memory_gib"] is None else f", {device['memory_gib']:.1f} GiB"
    cores = "" if device["cores"] is None else f", {device['cores']} cores"
    bf16 = "fast bfloat16" if device["fast_bf16"] else "no fast bfloat16"
    return f"  {device['device']:<12} {device['name']}{cores}{memory}, {bf16}"


def _model_line(model: Mapping[str, Any]) -> str:
    sha256 = f", sha256 {model['sha256'][:12]}..." if model["sha256"] else ""
    advice = f": {model['advice']}" if model["advice"] else ""
    return f"  {model['name']:<24} {model['state']}{advice}{sha256}"
