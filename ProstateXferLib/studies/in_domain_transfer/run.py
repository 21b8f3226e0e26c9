# SPDX-License-Identifier: Apache-2.0
"""The whole protocol: baselines, chains, all data, networks; trained, tested, and put into tables."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import make_folder, write_text
from ProstateXferLib.progress import Progress, SilentProgress, SubProgress, raise_if_cancelled
from ProstateXferLib.studies.in_domain_transfer.options import ARCHITECTURES, ENCODERS, TransferOptions
from ProstateXferLib.studies.in_domain_transfer.recipes import network_of, run_recipe, template
from ProstateXferLib.studies.in_domain_transfer.routes import Route, routes
from ProstateXferLib.studies.in_domain_transfer.slice_overlap import (
    SliceOverlap,
    checkpoint_overlap,
    read_overlaps,
    write_overlaps,
)
from ProstateXferLib.studies.in_domain_transfer.tables import network_cells, transfer_cells
from ProstateXferLib.studies.in_domain_transfer.training import Train, TrainedRoute, train_folds
from ProstateXferLib.studies.in_domain_transfer.writing import TransferTables, write_tables
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.datasets.registry import ID_PREFIX, find_cases
from ProstateXferLib.training.datasets.splits import split_cases
from ProstateXferLib.training.recipe.reading import resolved
from ProstateXferLib.training.recipe.schema import Chain, Source
from ProstateXferLib.training.run_folder import first_difference

_SETTINGS = "study.json"
_Tested = tuple[Route, str, int, list[SliceOverlap]]
"""Route, target, fold that was tested, slices of the target's test patients."""


@dataclass(frozen=True)
class Planned:
    """One route with one network, and its folder below the study's."""

    route: Route
    architecture: str
    encoder: str
    folder: str


@dataclass(frozen=True)
class _Study:
    sites: Mapping[str, Source]
    options: TransferOptions
    folder: Path
    data: Path
    device: str
    train: Train
    single: Chain
    merged: Chain


def planned_routes(sites: Mapping[str, Source], options: TransferOptions) -> tuple[Planned, ...]:
    """All that is trained, in order: the routes with the study's network, then the other networks of Table II."""
    every = routes(tuple(sites), longest_transfer=options.longest_transfer, merged=options.merged)
    chosen = (options.architecture, options.encoder)
    planned = [Planned(route, *chosen, f"routes/{route.name}") for route in every]
    if options.grid:
        others = [(a, e) for e in ENCODERS for a in ARCHITECTURES if (a, e) != chosen]
        planned += [Planned(every[0], a, e, f"networks/{a}-{e}") for a, e in others]
    return tuple(planned)


def run_study(
    sites: Mapping[str, Source],
    options: TransferOptions,
    folder: Path,
    *,
    data: Path,
    device: str,
    train: Train,
    progress: Progress | None = None,
) -> TransferTables:
    """Train what is not trained yet, test what is not tested yet, write the tables into the folder.

    Args:
        sites: name -> cases; named A, B and C they stand beside the paper's.
        options: what is run.
        folder: of the study; `routes/A-B/fold-0.safetensors`, `routes/A-B/test-B.csv`, `tables.md` and so on.
        data: folder that the sources' paths are relative to.
        device: of the tests ("auto", "cpu", ...).
        train: what trains.
        progress: told the steps; asked whether to stop.

    Raises:
        ProstateXferError: a folder of another study, sites without test patients, or what training raises.
        CancelledError: the user stopped; the same call goes on from there.
    """
    progress = progress or SilentProgress()
    sites = {name: _with_prefix(name, source) for name, source in sites.items()}
    planned = planned_routes(sites, options)
    single, merged = template(options, merged=False), template(options, merged=True)
    study = _Study(sites, options, make_folder(folder), data, device, train, single, merged)
    tests = {name: _test_cases(source, study) for name, source in sites.items()}
    _claim(study)
    trained: dict[str, TrainedRoute] = {}
    tested: list[_Tested] = []
    for number, plan in enumerate(planned):
        part = SubProgress(progress, number / len(planned), (number + 1) / len(planned))
        trained[plan.folder] = _train(plan, study, trained, SubProgress(part, 0.0, 0.9))
        if plan.folder.startswith("routes/"):
            for target in plan.route.trained_on:
                best = trained[plan.folder].best
                overlaps = _test(plan, target, best.checkpoint, tests[target], study, SubProgress(part, 0.9, 1.0))
                tested.append((plan.route, target, best.fold, overlaps))
    tables = _tables(study, planned, trained, tested)
    write_tables(tables, study.folder)
    return tables


def _train(plan: Planned, study: _Study, trained: Mapping[str, TrainedRoute], progress: Progress) -> TrainedRoute:
    before = plan.route.start
    start = None if before is None else trained[f"routes/{before.name}"].best.checkpoint
    network = network_of(plan.architecture, plan.encoder, study.options.encoder_weights)
    chain = study.merged if plan.route.merged else study.single

    def recipe_of(fold: int) -> Chain:
        return run_recipe(chain, plan.route, study.sites, fold=fold, network=network, start=start)

    return train_folds(recipe_of, study.options.folds, study.folder / plan.folder, train=study.train, progress=progress)


def _test(
    plan: Planned, target: str, checkpoint: Path, cases: tuple[Case, ...], study: _Study, progress: Progress
) -> list[SliceOverlap]:
    path = study.folder / plan.folder / f"test-{target}.csv"
    if not path.is_file():
        raise_if_cancelled(progress)
        above = study.single.stages[0].settings.validation.slices_above_pixels or 0
        overlaps = checkpoint_overlap(checkpoint, cases, above_pixels=above, device=study.device, progress=progress)
        write_overlaps(path, overlaps)
    return read_overlaps(path)


def _test_cases(source: Source, study: _Study) -> tuple[Case, ...]:
    """The site's test patients: the same in every route, since every source is split by itself (datasets/splits)."""
    split = study.single.stages[0].split
    cases = split_cases([(source, find_cases(source, study.data))], split).test
    if not cases:
        raise ProstateXferError(
            f"'{source.path}' keeps no patient for the test: give the split a test_share above 0, or more patients."
        )
    return cases


def _tables(
    study: _Study, planned: tuple[Planned, ...], trained: Mapping[str, TrainedRoute], tested: list[_Tested]
) -> TransferTables:
    options, first = study.options, planned[0].route
    networks = {(p.architecture, p.encoder): trained[p.folder] for p in planned if p.route == first}
    return TransferTables(
        sites={name: f"{source.layout}, {source.path}" for name, source in study.sites.items()},
        network=f"{options.architecture} with {options.encoder}, from {options.encoder_weights}",
        networks=tuple(network_cells(networks)),
        transfers=tuple(transfer_cells(_in_table_order(tested))),
    )


def _with_prefix(name: str, source: Source) -> Source:
    """Cases named after their site: the same id at two sites is two people, and the study lists both."""
    return dataclasses.replace(source, options={ID_PREFIX: f"{name}/", **source.options})


def _in_table_order(tested: list[_Tested]) -> list[_Tested]:
    """All data last, the others by the length of the chain, as the paper has them."""
    return sorted(tested, key=lambda one: (one[0].merged, len(one[0].sites)))


def _claim(study: _Study) -> None:
    """Note whose folder it is, or refuse one of another study; more chains and networks may be added later."""
    options = study.options
    settings: dict[str, Any] = {
        "sites": {name: {"layout": s.layout, "path": s.path, "options": s.options} for name, s in study.sites.items()},
        "folds": options.folds,
        "network": [options.architecture, options.encoder, options.encoder_weights],
        "single": resolved(study.single),
        "merged": resolved(study.merged),
    }
    settings = json.loads(json.dumps(settings))
    path = study.folder / _SETTINGS
    if not path.is_file():
        write_text(path, json.dumps(settings, indent=1) + "\n")
        return
    if difference := first_difference(json.loads(path.read_text(encoding="utf-8")), settings):
        place, then, now = difference
        raise ProstateXferError(
            f"The folder '{study.folder}' holds another study ({place}: {then!r} there, {now!r} here): choose another."
        )
