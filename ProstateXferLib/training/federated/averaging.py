# SPDX-License-Identifier: Apache-2.0
"""The weighted mean of several networks' weights: FedAvg's one formula (McMahan et al., AISTATS 2017, algorithm 1)."""

import math
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from ProstateXferLib.errors import ProstateXferError

BATCH_NORM = ("average", "local_statistics", "local")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_SCALING = ("weight", "bias")


def federated_average(
    states: Sequence[Mapping[str, Tensor]], weights: Sequence[float], *, local: Collection[str] = ()
) -> dict[str, Tensor]:
    """sum(weight * state) / sum(weight), name by name, summed in float64 and given back in the states' dtype.

    Args:
        states: one state dict a site; names, shapes and dtypes must be equal.
        weights: one a site, e.g. its number of patients; only their ratio matters.
        local: names that are left out, since every site keeps its own.

    Returns:
        name -> tensor on the CPU. Counters (whole numbers) are rounded to the nearest.

    Raises:
        ProstateXferError: no state, weights that are not positive, states of different networks, a NaN or infinity.
    """
    _check_weights(len(states), weights)
    _check_alike(states)
    total = math.fsum(weights)
    average = {}
    for name, first in states[0].items():
        if name in local:
            continue
        mean = torch.zeros(first.shape, dtype=torch.float64)
        for state, weight in zip(states, weights, strict=True):
            mean += state[name].detach().cpu().to(torch.float64) * (weight / total)
        if not mean.isfinite().all():
            raise ProstateXferError(f"Weight '{name}' of a site is NaN or infinite: leave that site out of the round.")
        average[name] = (mean if first.is_floating_point() else mean.round()).to(first.dtype)
    return average


def local_names(names: Collection[str], batch_norm: str) -> frozenset[str]:
    """The names that sites keep for themselves.

    Args:
        names: of a state dict.
        batch_norm: "average" keeps none; "local_statistics" the running means and variances of batch norms; "local"
            their scale and shift, too (FedBN: Li et al., ICLR 2021), for sites whose images differ much, as those taken
            with an endorectal coil do.

    Raises:
        ProstateXferError: another word.
    """
    if batch_norm not in BATCH_NORM:
        raise ProstateXferError(f"batch_norm is '{batch_norm}': it must be one of {', '.join(BATCH_NORM)}.")
    kept = {"average": (), "local_statistics": _STATISTICS, "local": (*_STATISTICS, *_SCALING)}[batch_norm]
    # A layer with running statistics is a batch norm (or an instance norm that behaves like one).
    layers = {name.removesuffix("running_var") for name in names if name.rpartition(".")[2] == "running_var"}
    return frozenset(name for layer in layers for end in kept if (name := f"{layer}{end}") in names)


def _check_weights(count: int, weights: Sequence[float]) -> None:
    if not count or len(weights) != count:
        raise ProstateXferError(f"An average of {count} sites needs as many weights, not {len(weights)}.")
    if not all(math.isfinite(weight) and weight > 0 for weight in weights):
        raise ProstateXferError(f"The sites' weights must be positive, not {', '.join(map(str, weights))}.")


def _check_alike(states: Sequence[Mapping[str, Tensor]]) -> None:
    first = {name: (tensor.shape, tensor.dtype) for name, tensor in states[0].items()}
    for number, state in enumerate(states[1:], start=2):
        other = {name: (tensor.shape, tensor.dtype) for name, tensor in state.items()}
        differing = sorted(name for name in first.keys() | other.keys() if first.get(name) != other.get(name))
        if differing:
            raise ProstateXferError(
                f"The weights of site {number} are not of the first site's network ('{differing[0]}' differs): all "
                "sites must start from one checkpoint."
            )
