# SPDX-License-Identifier: Apache-2.0
"""What one site does in a round when a server sends it the average: train a short stage, pack the result."""

import shutil
from pathlib import Path

from ProstateXferLib.files import atomic_file
from ProstateXferLib.progress import Progress
from ProstateXferLib.training.exchange.export import SUFFIX as PACKAGE
from ProstateXferLib.training.exchange.export import export_package
from ProstateXferLib.training.federated.packages import with_own_norms
from ProstateXferLib.training.federated.rounds import Site, Train, site_chain
from ProstateXferLib.training.finished_run import drop_weights_of_run
from ProstateXferLib.training.recipe.schema import Chain

MODEL, _START = "model.safetensors", "start.safetensors"


def site_round(
    chain: Chain,
    site: Site,
    received: Path,
    folder: Path,
    *,
    number: int,
    batch_norm: str,
    train: Train,
    progress: Progress,
    key: bytes | None = None,
) -> Path:
    """Train from the weights that were received; a round that was finished before is only packed again.

    Args:
        chain: a recipe of one stage, the same at all sites.
        site: this one.
        received: the average of the round before, or the common start.
        folder: of this round at this site; that of the round before lies beside it (`round-01`, `round-02`).
        number: of the round, from 1.
        batch_norm: what the site keeps for itself from its own round before (`averaging.local_names`).
        train: what trains.
        progress: told the steps.
        key: the sites' shared key.

    Returns:
        The weights package to send back.

    Raises:
        ProstateXferError: what training raises, or files that cannot be read or written.
    """
    model, start = folder / MODEL, folder / _START
    before = folder.parent / f"round-{number - 1:02d}" / MODEL
    if not model.is_file():
        if batch_norm != "average" and before.is_file():
            with_own_norms(received, before, start, batch_norm=batch_norm)
        else:
            with atomic_file(start) as temporary:
                shutil.copyfile(received, temporary)
        train(site_chain(chain, site, start, number), model, progress)
        drop_weights_of_run(model)
    package = folder / f"model{PACKAGE}"
    export_package(model, package, site=site.name, patients=site.patients, key=key)
    return package
