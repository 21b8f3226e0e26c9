# SPDX-License-Identifier: Apache-2.0
"""The recipe of one training run of the study: one stage of one route, one fold."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from ProstateXferLib.studies.in_domain_transfer.options import TransferOptions
from ProstateXferLib.studies.in_domain_transfer.routes import Route
from ProstateXferLib.training.recipe.reading import read_recipe
from ProstateXferLib.training.recipe.schema import Chain, Network, Source, Start

SINGLE, MERGED = "in_domain_transfer/imagenet", "in_domain_transfer/all-data"


def template(options: TransferOptions, *, merged: bool) -> Chain:
    """The shipped recipe of one stage with the user's changes; sites, fold and start come with `run_recipe`.

    Raises:
        ProstateXferError: a change that does not fit the recipe.
    """
    name = MERGED if merged else SINGLE
    changes = [f"stages.target.split.folds={options.folds}", *options.changes]
    if options.epochs is not None:
        changes.insert(0, f"stages.target.schedule.epochs={options.epochs}")
    return read_recipe(name, changes=changes)


def run_recipe(
    chain: Chain, route: Route, sites: Mapping[str, Source], *, fold: int, network: Network, start: Path | None
) -> Chain:
    """One stage of the study.

    Args:
        chain: `template` of this kind of route.
        route: what is trained on.
        sites: name -> cases.
        fold: the one that validates.
        network: with the weights a fresh encoder begins with.
        start: the checkpoint of the route that this one goes on from; None begins from the encoder's weights.
    """
    stage = dataclasses.replace(
        chain.stages[0],
        network=network,
        data=tuple(sites[name] for name in route.trained_on),
        split=dataclasses.replace(chain.stages[0].split, fold=fold),
        start=Start() if start is None else Start(checkpoint=str(start)),
    )
    trained = " and ".join(route.sites) if route.merged else " then ".join(route.sites)
    texts = dataclasses.replace(chain.texts, training_data=f"site(s) {trained} of the user's in-domain transfer study")
    return dataclasses.replace(chain, name=f"{chain.name}-{route.name}", texts=texts, stages=(stage,))


def network_of(architecture: str, encoder: str, weights: str) -> Network:
    """A network of segmentation_models_pytorch; `weights` as in `TransferOptions.encoder_weights`."""
    arguments = {"architecture": architecture, "encoder": encoder}
    if weights != "none":
        arguments["encoder_weights"] = "imagenet"
    if weights not in ("none", "imagenet"):
        arguments["weights_file"] = weights
    return Network("smp", arguments)
