# SPDX-License-Identifier: Apache-2.0
"""A round of federated averaging without a server: the sites' weights packages in, one checkpoint out."""

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.checkpoints.file_format import SUFFIX, read_checkpoint, write_checkpoint
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import require_folder_of
from ProstateXferLib.training.exchange.record import ExchangeRecord
from ProstateXferLib.training.exchange.resume import read_package
from ProstateXferLib.training.federated.averaging import federated_average, local_names
from ProstateXferLib.training.federated.cards import averaged_card


@dataclass(frozen=True)
class _Site:
    card: ModelCard
    state: dict[str, Tensor]
    record: ExchangeRecord


def average_packages(
    packages: Sequence[Path],
    output: Path,
    *,
    batch_norm: str = "average",
    own: Path | None = None,
    key: bytes | None = None,
) -> ModelCard:
    """Write the average of the sites' models, each weighted by its number of patients.

    Args:
        packages: one a site, all trained from one checkpoint.
        output: checkpoint to write.
        batch_norm: what sites keep for themselves (`averaging.local_names`).
        own: the checkpoint whose batch norms are kept, unless they are averaged: that of the site that trains on.
        key: the sites' shared key; every package must then be signed with it.

    Raises:
        ProstateXferError: a package that fails a check, two of one site, models that differ, `own` missing or not asked
            for, not writable.
    """
    output = Path(output)
    if output.suffix != SUFFIX:
        raise ProstateXferError(f"A checkpoint's file name must end in {SUFFIX}; '{output.name}' does not.")
    require_folder_of(output)
    if len(packages) < 2:
        raise ProstateXferError("An average needs the packages of two sites or more.")
    # Sorted, so that everybody who has the packages gets the same sums, in whatever order they are named.
    sites = sorted((_Site(*read_package(package, key=key)) for package in packages), key=lambda site: site.record.site)
    ids = [site.record.site for site in sites]
    if twice := [name for name in ids if ids.count(name) > 1]:
        raise ProstateXferError(f"Two packages are of the site {twice[0]}: give the later one only.")
    local = local_names(sites[0].state.keys(), batch_norm)
    if bool(local) != (own is not None):
        raise ProstateXferError(
            "Batch norms that are not averaged are those of one checkpoint: name it."
            if local
            else "There are no batch norms to keep: leave out the checkpoint that they would be taken from."
        )
    states, patients = [site.state for site in sites], [site.record.patients for site in sites]
    average = federated_average(states, patients, local=local)
    own_card = None
    if own is not None:
        own_card, kept = _own_norms(own, local)
        average |= kept
    cards, records = [site.card for site in sites], [site.record for site in sites]
    card = averaged_card(cards, records, batch_norm=batch_norm, own=own_card)
    write_checkpoint(output, card, average)
    return card


def with_own_norms(average: Path, own: Path, output: Path, *, batch_norm: str) -> Path:
    """Write an average in which one site's batch norms and preprocessing are its own again, as in `average_packages`.

    For a site to which a server sends an average of everything.

    Raises:
        ProstateXferError: a checkpoint that is damaged or of another network, or not writable.
    """
    card, state = read_checkpoint(average)
    own_card, kept = _own_norms(own, local_names(state.keys(), batch_norm))
    return write_checkpoint(output, dataclasses.replace(card, preprocessing=own_card.preprocessing), state | kept)


def _own_norms(own: Path, local: Collection[str]) -> tuple[ModelCard, dict[str, Tensor]]:
    card, state = read_checkpoint(own)
    if missing := sorted(set(local) - state.keys()):
        raise ProstateXferError(f"'{own.name}' is of another network: it has no '{missing[0]}'.")
    return card, {name: state[name] for name in local}
