# SPDX-License-Identifier: Apache-2.0
"""The study's tables as Markdown for people, CSV for tables and JSON for programs."""

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ProstateXferLib.files import write_text
from ProstateXferLib.studies.in_domain_transfer.options import ARCHITECTURES, ENCODERS
from ProstateXferLib.studies.in_domain_transfer.published import NOTES
from ProstateXferLib.studies.in_domain_transfer.published import SITES as PAPER_SITES
from ProstateXferLib.studies.in_domain_transfer.slice_overlap import AVERAGES, DEFAULT_AVERAGE
from ProstateXferLib.studies.in_domain_transfer.tables import NetworkCell, TransferCell

_ARCHITECTURE_TITLES = {"unet": "UNet", "unetplusplus": "UNet++", "manet": "MANet", "deeplabv3": "DeepLabV3"}
_AVERAGE_TITLES = {
    "slice": "mean over slices",
    "patient": "mean over patients, each one's slices pooled",
    "pooled": "all pixels pooled",
}


@dataclass(frozen=True)
class TransferTables:
    """Both tables, and what they were made of.

    Attributes:
        sites: name -> what the user said it is.
        network: "UNet++ ..." of Table III, in words.
        networks, transfers: cells of Table II and III.
    """

    sites: Mapping[str, str]
    network: str
    networks: tuple[NetworkCell, ...]
    transfers: tuple[TransferCell, ...]


def markdown(tables: TransferTables) -> str:
    """A page: Table II, Table III in the default average, the other two averages, notes."""
    sites = [
        f"- {name}: {text}" + (f" (in the paper: {PAPER_SITES[name]})" if name in PAPER_SITES else "")
        for name, text in tables.sites.items()
    ]
    parts = ["# In-domain transfer", "\n".join(sites)]
    first = next(iter(tables.sites))
    parts += [f"## Table II: validation Dice at site {first}, mean ± standard deviation over folds, %"]
    parts += [_network_table(tables.networks), "In brackets the paper's mean."]
    for average in sorted(AVERAGES, key=lambda name: name != DEFAULT_AVERAGE):
        title = f"## Table III: test Dice / IoU, %, {_AVERAGE_TITLES[average]}"
        cells = [cell for cell in tables.transfers if cell.average == average]
        parts += [title + (" (default)" if average == DEFAULT_AVERAGE else ""), _transfer_table(cells, tables.sites)]
    parts += [
        f"Network: {tables.network}. In brackets the paper's numbers; the best validated fold of each was tested."
    ]
    parts += ["\n".join(f"- {note}" for note in NOTES), "Research use only – not for clinical decisions."]
    return "\n\n".join(parts) + "\n"


def write_tables(tables: TransferTables, folder: Path) -> dict[str, Path]:
    """Write tables.md, table-2.csv, table-3.csv and tables.json; returns where."""
    values = {
        "sites": dict(tables.sites),
        "network": tables.network,
        "default_average": DEFAULT_AVERAGE,
        "table_2": [dataclasses.asdict(cell) for cell in tables.networks],
        "table_3": [dataclasses.asdict(cell) for cell in tables.transfers],
        "notes": NOTES,
    }
    return {
        "markdown": write_text(folder / "tables.md", markdown(tables)),
        "table_2": write_text(folder / "table-2.csv", _csv(NetworkCell, tables.networks)),
        "table_3": write_text(folder / "table-3.csv", _csv(TransferCell, tables.transfers)),
        "json": write_text(folder / "tables.json", json.dumps(values, indent=1, ensure_ascii=False) + "\n"),
    }


def _network_table(cells: Sequence[NetworkCell]) -> str:
    at = {(cell.architecture, cell.encoder): cell for cell in cells}
    columns = [name for name in ARCHITECTURES if any(cell.architecture == name for cell in cells)]
    rows = [
        (encoder, *(_network_text(at.get((name, encoder))) for name in columns))
        for encoder in ENCODERS
        if any(cell.encoder == encoder for cell in cells)
    ]
    return _table(("encoder", *(_ARCHITECTURE_TITLES[name] for name in columns)), rows)


def _network_text(cell: NetworkCell | None) -> str:
    if cell is None:
        return "–"
    return f"{cell.mean_percent:.2f} ± {cell.deviation_percent:.2f} [{cell.paper_percent:.2f}]"


def _transfer_table(cells: Sequence[TransferCell], sites: Mapping[str, str]) -> str:
    at = {(cell.source, cell.target): cell for cell in cells}
    sources = dict.fromkeys(cell.source for cell in cells)
    rows = [(source, *(_transfer_text(at.get((source, site))) for site in sites)) for source in sources]
    return _table(("source", *(f"→ {site}" for site in sites)), rows)


def _transfer_text(cell: TransferCell | None) -> str:
    if cell is None:
        return "–"
    paper = ""
    if cell.paper_dice_percent is not None:
        paper = f" [{cell.paper_dice_percent:.2f} / {cell.paper_iou_percent:.2f}]"
    return f"{cell.dice_percent:.2f} / {cell.iou_percent:.2f}{paper}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def _csv(kind: type, cells: Sequence[Any]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in dataclasses.fields(kind)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(dataclasses.asdict(cell) for cell in cells)
    return text.getvalue()
