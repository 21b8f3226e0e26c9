# SPDX-License-Identifier: Apache-2.0
"""From a checkpoint to a weights package."""

import dataclasses
import tempfile
from pathlib import Path

from ProstateXferLib.checkpoints.file_format import file_sha256, read_checkpoint, write_checkpoint
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import require_folder_of
from ProstateXferLib.training.exchange.container import MODEL, RECORD, SIGNATURE, write_container
from ProstateXferLib.training.exchange.record import ExchangeRecord, record_of, versions
from ProstateXferLib.training.exchange.signature import sign, site_id

SUFFIX = ".pxweights"


def export_package(
    checkpoint: Path, output: Path, *, site: str, patients: int, key: bytes | None = None
) -> ExchangeRecord:
    """Pack a checkpoint for another centre; its card's history gets an entry of this site, which travels on from there.

    Args:
        checkpoint: a checkpoint of ours.
        output: the package to write; its name must end in .pxweights.
        site: the centre's name, of which only `site_id` is written.
        patients: how many patients it trained on: the weight of its share in an average.
        key: the centres' shared key, to sign with and to hide the site's name behind.

    Raises:
        ProstateXferError: no whole checkpoint, wrong ending, no patients, no name, not writable.
    """
    output = Path(output)
    if output.suffix != SUFFIX:
        raise ProstateXferError(f"A weights package's file name must end in {SUFFIX}; '{output.name}' does not.")
    if patients < 1:
        raise ProstateXferError(f"A package of weights trained on {patients} patients says nothing: give their number.")
    require_folder_of(output)
    name = site_id(site, key)
    card, state = read_checkpoint(checkpoint)
    # The file's name stays here: it may well be the hospital's. Its SHA-256 links the entry to the stage before.
    entry = {
        "stage": "export",
        "site": name,
        "patients": patients,
        "start": {"sha256": file_sha256(checkpoint)},
        "versions": versions(),
    }
    card = dataclasses.replace(card, history=(*card.history, entry))
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".export-") as folder:
        model = write_checkpoint(Path(folder) / MODEL, card, state)
        record = record_of(card, site=name, patients=patients, model_sha256=file_sha256(model))
        texts = {RECORD: record.to_json()}
        if key is not None:
            texts[SIGNATURE] = sign(texts[RECORD], key)
        write_container(output, texts, model)
    return record
