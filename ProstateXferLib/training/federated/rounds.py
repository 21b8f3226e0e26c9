# SPDX-License-Identifier: Apache-2.0
"""Rounds of federated averaging: every site trains a short stage from the same weights, then the weights are averaged.

The sites' weights go from one to the other as weights packages, as between hospitals, so that what a run on one machine
shows is what the packages give when each site runs `prostatexfer train` for itself.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import file_sha256, make_folder, write_text
from ProstateXferLib.progress import Progress, SilentProgress, SubProgress, raise_if_cancelled
from ProstateXferLib.training.exchange.export import SUFFIX as PACKAGE
from ProstateXferLib.training.exchange.export import export_package
from ProstateXferLib.training.federated.averaging import BATCH_NORM
from ProstateXferLib.training.federated.packages import average_packages
from ProstateXferLib.training.finished_run import drop_weights_of_run
from ProstateXferLib.training.recipe.reading import recipe_sha256
from ProstateXferLib.training.recipe.schema import Chain, Source, Start

Train = Callable[[Chain, Path, Progress], Path]
"""Runs a chain and writes its checkpoint (chain.run_chain with data, device and so on filled in)."""

_SETTINGS = "federated.json"


@dataclass(frozen=True)
class Site:
    """One centre: its name (it is written nowhere but in folder names), its cases, and how many patients train."""

    name: str
    source: Source
    patients: int


@dataclass(frozen=True)
class RoundOptions:
    """How many rounds, and what sites keep for themselves (`averaging.local_names`)."""

    rounds: int
    batch_norm: str = "average"

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ProstateXferError(f"{self.rounds} rounds train nothing: give 1 or more.")
        if self.batch_norm not in BATCH_NORM:
            raise ProstateXferError(f"batch_norm is '{self.batch_norm}': it must be one of {', '.join(BATCH_NORM)}.")


def run_rounds(
    chain: Chain,
    sites: tuple[Site, ...],
    start: Path,
    folder: Path,
    *,
    options: RoundOptions,
    train: Train,
    progress: Progress | None = None,
) -> dict[str, Path]:
    """Train at every site in rounds; started again, finished sites and rounds are not trained anew.

    Args:
        chain: a recipe of one stage, the same for all sites; its data are replaced by the site's, its start by the
            average of the round before.
        sites: two or more.
        start: the checkpoint that all sites start from.
        folder: `round-01/A.pxweights` and so on are written there.
        options: number of rounds, batch norms.
        train: what trains.
        progress: told site by site.

    Returns:
        Site name -> its checkpoint after the last round; the same file for all where everything is averaged.

    Raises:
        ProstateXferError: a recipe of several stages, fewer than two sites, a folder of another run, or what training
            raises.
    """
    _check(chain, sites)
    progress = progress or SilentProgress()
    _claim(make_folder(folder), chain, sites, start, options)
    starts = dict.fromkeys((site.name for site in sites), Path(start))
    for number in range(1, options.rounds + 1):
        place = make_folder(Path(folder) / f"round-{number:02d}")
        for index, site in enumerate(sites):
            raise_if_cancelled(progress)
            share = (number - 1 + index / len(sites)) / options.rounds
            part = SubProgress(progress, share, share + 1 / (options.rounds * len(sites)))
            _train_site(site_chain(chain, site, starts[site.name], number), site, place, train=train, progress=part)
        starts = _average(sites, place, options.batch_norm)
    return starts


def require_one_stage(chain: Chain) -> None:
    """Raise ProstateXferError unless the recipe is one stage, which is what a round trains."""
    if len(chain.stages) != 1:
        raise ProstateXferError(f"A federated round is one stage; the recipe '{chain.name}' has {len(chain.stages)}.")


def _check(chain: Chain, sites: tuple[Site, ...]) -> None:
    require_one_stage(chain)
    names = [site.name for site in sites]
    if len(sites) < 2 or len(set(names)) != len(names):
        raise ProstateXferError("Federated averaging needs two sites or more, each with its own name.")


def site_chain(chain: Chain, site: Site, start: Path, number: int) -> Chain:
    """The recipe at this site in this round; a round has its own seed, or all would draw the same samples."""
    stage = dataclasses.replace(chain.stages[0], data=(site.source,), start=Start(checkpoint=str(start)))
    return dataclasses.replace(chain, stages=(stage,), seed=chain.seed + number)


def _train_site(chain: Chain, site: Site, place: Path, *, train: Train, progress: Progress) -> None:
    package, checkpoint = place / f"{site.name}{PACKAGE}", place / f"{site.name}.safetensors"
    if package.is_file():
        return
    train(chain, checkpoint, progress)
    drop_weights_of_run(checkpoint)
    export_package(checkpoint, package, site=site.name, patients=site.patients)


def _average(sites: tuple[Site, ...], place: Path, batch_norm: str) -> dict[str, Path]:
    packages = [place / f"{site.name}{PACKAGE}" for site in sites]
    if batch_norm == "average":
        output = place / "average.safetensors"
        if not output.is_file():
            average_packages(packages, output)
        return dict.fromkeys((site.name for site in sites), output)
    outputs = {site.name: place / f"average-for-{site.name}.safetensors" for site in sites}
    for name, output in outputs.items():
        if not output.is_file():
            average_packages(packages, output, batch_norm=batch_norm, own=place / f"{name}.safetensors")
    return outputs


def _claim(folder: Path, chain: Chain, sites: tuple[Site, ...], start: Path, options: RoundOptions) -> None:
    """Write what is run there, or refuse a folder in which something else was run; more rounds may follow."""
    settings: Mapping[str, object] = {
        "recipe": recipe_sha256(chain),
        "start": file_sha256(start),
        "sites": {site.name: [dataclasses.asdict(site.source), site.patients] for site in sites},
        "batch_norm": options.batch_norm,
    }
    text = json.dumps(settings, indent=1, sort_keys=True) + "\n"
    path = folder / _SETTINGS
    if not path.is_file():
        write_text(path, text)
    elif path.read_text(encoding="utf-8") != text:
        raise ProstateXferError(
            f"The folder '{folder}' holds rounds with another recipe, start, batch norm or other sites: choose another."
        )
