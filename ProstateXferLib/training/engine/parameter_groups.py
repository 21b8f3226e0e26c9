# SPDX-License-Identifier: Apache-2.0
"""Which parameters are trained, with which share of the learning rate and of the weight decay."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.recipe.schema import Group, Optimiser

_BLOCK = re.compile(r"(?:(?P<prefix>.*)\.)?blocks\.(?P<block>\d+)\.")
_INPUT = re.compile(r"(?:(?P<prefix>.*)\.)?(?:cls_token|storage_tokens|mask_token|(?P<patch>patch_embed)\..*)$")
# Matrices by their shape, yet no weights that multiply activations.
_NO_MATRIX = re.compile(r"(?:^|[._])(?:tokens?|pos_embed|position_embeddings?|relative_position_bias_table)$")
REST, FIXED = "rest", "fixed by the task"


@dataclass(frozen=True)
class Assigned:
    """One parameter and what the recipe does with it.

    Attributes:
        group: label of the recipe's group: what it matches, "rest", or "fixed by the task" (a teacher).
        factor: of the learning rate, layer decay included.
        frozen: by the recipe, or by the task itself.
    """

    name: str
    parameter: nn.Parameter
    group: str
    factor: float
    weight_decay: float
    frozen: bool


def assign_parameters(learner: nn.Module, optimiser: Optimiser, groups: Sequence[Group]) -> list[Assigned]:
    """Every parameter of the learner with its group; nothing is changed yet.

    Raises:
        ProstateXferError: a group matches no parameter, nothing is left to train, or layer decay without layers.
    """
    named = list(learner.named_parameters())
    layers = layer_factors([name for name, _ in named], optimiser.layer_decay, optimiser.patch_embed_factor)
    if optimiser.layer_decay != 1 and all(factor == 1 for factor in layers.values()):
        raise ProstateXferError(
            "The optimiser's layer_decay finds no transformer blocks in this network: leave it out."
        )
    assigned, used = [], set()
    for name, parameter in named:
        group = next((g for g in groups if any(part in name for part in g.match)), None)
        used.add(group)
        decay = optimiser.weight_decay if group is None or group.weight_decay is None else group.weight_decay
        assigned.append(
            Assigned(
                name,
                parameter,
                group=group_label(group) if parameter.requires_grad else FIXED,
                factor=layers[name] * (group.factor if group else 1.0),
                weight_decay=decay if optimiser.decay_all or _is_decayed(name, parameter) else 0.0,
                frozen=not parameter.requires_grad or bool(group and group.frozen),
            )
        )
    for group in groups:
        if group not in used:
            raise ProstateXferError(
                f"The group that matches {', '.join(group.match)} has no parameter (or earlier groups took all): the "
                f"names are like {', '.join(name for name, _ in named[:: max(1, len(named) // 4)][:4])}."
            )
    if all(entry.frozen for entry in assigned):
        raise ProstateXferError("The recipe freezes every parameter: leave something to train.")
    return assigned


def group_label(group: Group | None) -> str:
    """A group's name in logs and listings: what it matches."""
    return "+".join(group.match) if group else REST


def layer_factors(names: Iterable[str], layer_decay: float, patch_embed_factor: float) -> dict[str, float]:
    """Learning-rate factor of every parameter of a DINOv3, by name; 1 for names of anything else.

    Tokens and the patch embedding are layer 0, block i is layer i + 1, norm and heads stand above the last; the factor
    is layer_decay ** (depth + 1 - layer), and the patch embedding's is multiplied by `patch_embed_factor` besides.
    Source: DINOv3's parameter groups (arXiv 2508.10104's code).
    """
    names = list(names)
    depths: dict[str | None, int] = {}
    for found in filter(None, map(_BLOCK.match, names)):
        depths[found["prefix"]] = max(depths.get(found["prefix"], 0), int(found["block"]) + 1)
    factors = dict.fromkeys(names, 1.0)
    for name in names:
        if block := _BLOCK.match(name):
            factors[name] = layer_decay ** (depths[block["prefix"]] - int(block["block"]))
        elif (outer := _INPUT.match(name)) and outer["prefix"] in depths:
            factors[name] = layer_decay ** (depths[outer["prefix"]] + 1) * (patch_embed_factor if outer["patch"] else 1)
    return factors


def may_fuse(device: torch.device, precision: str) -> bool:
    """Whether steps on `device` can be made by one fused kernel (on a CPU about ten times faster than many small ones).

    Not in fp16: a fused optimiser unscales the gradients itself, and they could not be clipped before.
    """
    return device.type in ("cpu", "cuda") and precision != "fp16"


def make_optimiser(assigned: Sequence[Assigned], options: Optimiser, *, fused: bool = False) -> torch.optim.Optimizer:
    """Freeze what is frozen and give the rest to an optimiser.

    The optimiser's groups keep "factor" and "base_weight_decay", from which the loop sets rates before every step.

    Args:
        assigned: every parameter of the learner.
        options: the recipe's.
        fused: make a step in one kernel, see `may_fuse`; gradients must lie in memory as their parameters do, as those
            of autograd's backward pass do (the CPU's kernel does not look at strides).
    """
    gathered: dict[tuple[str, float, float], list[nn.Parameter]] = {}
    for entry in assigned:
        entry.parameter.requires_grad_(not entry.frozen)
        if not entry.frozen:
            gathered.setdefault((entry.group, entry.factor, entry.weight_decay), []).append(entry.parameter)
    groups = [
        {
            "params": parameters,
            "lr": options.learning_rate * factor,
            "weight_decay": decay,
            "label": label,
            "factor": factor,
            "base_weight_decay": decay,
        }
        for (label, factor, decay), parameters in gathered.items()
    ]
    if options.name == "sgd":
        return torch.optim.SGD(groups, momentum=options.momentum, nesterov=options.momentum > 0, fused=fused or None)
    kind = torch.optim.AdamW if options.name == "adamw" else torch.optim.Adam
    return kind(groups, betas=tuple(options.betas), fused=fused or None)


def frozen_modules(learner: nn.Module) -> list[nn.Module]:
    """The largest modules none of whose parameters is trained: they stay in evaluation mode, their statistics too."""
    if not any(parameter.requires_grad for parameter in learner.parameters()):
        return [learner] if any(True for _ in learner.parameters()) else []
    return [module for child in learner.children() for module in frozen_modules(child)]


def _is_decayed(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim > 1 and not _NO_MATRIX.search(name)
