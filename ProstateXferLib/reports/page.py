# SPDX-License-Identifier: Apache-2.0
"""What a report page consists of, before it is HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

RESEARCH_USE_ONLY = "Research use only – not for clinical decisions"


@dataclass(frozen=True)
class Figure:
    """A PNG picture with its title and the sentence that says how to read it."""

    title: str
    caption: str
    png_bytes: bytes = field(repr=False)


@dataclass(frozen=True)
class Table:
    """Text cells under a header. `units` is a second header line; rows in `indented` are parts of the row above."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    units: Sequence[str] = ()
    indented: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Page:
    """One report. `notes` are paragraphs on methods; `provenance` maps names to values, or group titles to mappings.

    `figures` and `tables` appear in their order; the tables come first.
    """

    title: str
    subtitle: str = ""
    notes: Sequence[str] = ()
    warnings: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
