# SPDX-License-Identifier: Apache-2.0
"""A report as ONE HTML file: pictures inside, no script, nothing fetched from anywhere."""

import base64
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ProstateXferLib.files import write_text
from ProstateXferLib.reports.page import RESEARCH_USE_ONLY, Figure, Page, Table

__all__ = ["RESEARCH_USE_ONLY", "Figure", "Page", "Table", "render_page", "write_page"]

_WORD = re.compile(r"[^\W\d_]{4}")
# A hospital's proxy or a mail filter may add scripts or trackers; the browser then refuses them.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

# Type is 17 px and the accent 7:1 on white, so that the page reads from the back of a tumour board.
_STYLE = """
:root { color-scheme: light; --ink: #1c2733; --soft: #56636f; --line: #d8dfe5; --band: #f4f7f9; --accent: #0b5c78; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff; font: 17px/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif; }
main, header > div, footer { max-width: 1180px; margin: 0 auto; padding: 0 28px; }
header { border-top: 6px solid var(--accent); padding: 28px 0 4px; }
h1 { font-size: 32px; line-height: 1.2; margin: 0; letter-spacing: -0.01em; }
header p.subtitle { margin: 6px 0 0; color: var(--soft); font-size: 19px; }
p.research { margin: 20px 0 0; padding: 11px 18px; background: #fdecea; border-left: 6px solid #b3261e; color: #8c1d18;
  font-weight: 600; font-size: 18px; }
section { margin: 36px 0 0; }
h2 { font-size: 22px; margin: 0 0 12px; padding-bottom: 6px; border-bottom: 2px solid var(--line);
  color: var(--accent); }
.warnings { background: #fff7e0; border-left: 6px solid #b47a00; padding: 12px 18px; }
.warnings h2 { border: 0; padding: 0; margin: 0 0 4px; color: #6b4800; font-size: 18px; }
.warnings ul { margin: 0; padding-left: 22px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14.5px; font-variant-numeric: tabular-nums; }
p.caption { color: var(--soft); font-size: 14px; margin: 8px 0 0; max-width: 76em; }
th, td { padding: 7px 8px; text-align: right; white-space: nowrap; vertical-align: baseline; }
th:first-child, td:first-child { text-align: left; }
table.remarks th:last-child, table.remarks td:last-child { text-align: left; }
table.remarks td:last-child { white-space: normal; }
th.words, td.words { text-align: left; }
thead th { font-weight: 600; padding-bottom: 0; white-space: normal; vertical-align: bottom; }
thead tr.units th { font-weight: 400; color: var(--soft); padding-top: 0; padding-bottom: 7px; }
thead tr:last-child th { border-bottom: 2px solid var(--ink); padding-bottom: 7px; }
tbody th { font-weight: 600; }
tbody tr { border-bottom: 1px solid var(--line); }
tbody tr.part th { font-weight: 400; padding-left: 30px; }
table.provenance td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
table.provenance th { font-weight: 400; color: var(--soft); width: 15em; }
table.provenance th.group { color: var(--ink); font-weight: 600; background: var(--band); }
figure { margin: 0; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figcaption { color: var(--soft); font-size: 15px; margin-top: 8px; max-width: 62em; }
.notes p { margin: 0 0 10px; max-width: 62em; }
footer { color: var(--soft); font-size: 14px; padding: 20px 32px 32px; margin-top: 40px;
  border-top: 1px solid var(--line); }
@media print {
  @page { size: A4; margin: 14mm 12mm; }
  body { font-size: 10pt; -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  main, header > div, footer { max-width: none; padding: 0; }
  header { padding-top: 10px; }
  h1 { font-size: 20pt; } h2 { font-size: 13pt; break-after: avoid; }
  .warnings h2 { font-size: 11pt; }
  p.research, header p.subtitle { font-size: 11pt; }
  section { margin-top: 18px; }
  table { font-size: 7.6pt; } th, td { padding: 3px 4px; } p.caption, figcaption, footer { font-size: 8.5pt; }
  figure, tr, .warnings { break-inside: avoid; }
  figure img { max-height: 235mm; }
}
""".strip()


def render_page(page: Page) -> str:
    """The page as HTML text; every word from outside is escaped, every picture is a data URI."""
    sections = [
        _warnings(page.warnings),
        *map(_table, page.tables),
        *map(_figure, page.figures),
        _provenance(page.provenance),
        _notes(page.notes),
    ]
    subtitle = f'\n<p class="subtitle">{escape(page.subtitle)}</p>' if page.subtitle else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">
<title>{escape(page.title)}</title>
<style>
{_STYLE}
</style>
</head>
<body>
<header><div>
<h1>{escape(page.title)}</h1>{subtitle}
<p class="research" role="note">{RESEARCH_USE_ONLY}</p>
</div></header>
<main>
{"".join(section for section in sections if section)}</main>
<footer>{RESEARCH_USE_ONLY}. Written by ProstateXfer.</footer>
</body>
</html>
"""


def write_page(page: Page, path: str | Path) -> Path:
    """Write the page as one UTF-8 file, whole or not at all."""
    return write_text(Path(path), render_page(page))


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    items = "".join(f"<li>{escape(warning)}</li>\n" for warning in warnings)
    return f'<section class="warnings" role="alert">\n<h2>Please check</h2>\n<ul>\n{items}</ul>\n</section>\n'


def _table(table: Table) -> str:
    words = _columns_of_words(table)
    head = "".join(f'<th{_kind(i in words)} scope="col">{escape(name)}</th>' for i, name in enumerate(table.header))
    units = "".join(f"<th>{escape(unit)}</th>" for unit in table.units)
    units = f'<tr class="units">{units}</tr>\n' if table.units else ""
    rows = "".join(_row(row, words, part=i in table.indented) for i, row in enumerate(table.rows))
    # Outside of what scrolls: a wide table must not take its notes out of sight.
    caption = f'<p class="caption">{escape(table.caption)}</p>\n' if table.caption else ""
    kind = ' class="remarks"' if _ends_in_words(table) else ""
    return (
        f'<section>\n<h2>{escape(table.title)}</h2>\n<div class="scroll"><table{kind}>\n<thead>\n'
        f"<tr>{head}</tr>\n{units}</thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n{caption}</section>\n"
    )


def _ends_in_words(table: Table) -> bool:
    """Whether the last column holds words, which read from the left; numbers end below each other at the right."""
    return any(sign.isalpha() for row in table.rows for sign in str(row[-1]))


def _columns_of_words(table: Table) -> frozenset[int]:
    """Columns between the first and the last with a word in a cell, which read from the left like the last one's."""
    columns = range(1, len(table.header) - 1)
    return frozenset(i for i in columns if any(_WORD.search(str(row[i])) for row in table.rows))


def _kind(words: bool) -> str:
    return ' class="words"' if words else ""


def _row(cells: Sequence[str], words: frozenset[int], *, part: bool) -> str:
    first, *others = (escape(str(cell)) for cell in cells)
    kind = ' class="part"' if part else ""
    data = "".join(f"<td{_kind(i in words)}>{cell}</td>" for i, cell in enumerate(others, start=1))
    return f'<tr{kind}><th scope="row">{first}</th>{data}</tr>\n'


def _figure(figure: Figure) -> str:
    picture = base64.b64encode(figure.png_bytes).decode("ascii")
    title = escape(figure.title)
    return (
        f'<section>\n<h2>{title}</h2>\n<figure>\n<img alt="{title}" src="data:image/png;base64,{picture}">\n'
        f"<figcaption>{escape(figure.caption)}</figcaption>\n</figure>\n</section>\n"
    )


def _provenance(provenance: Mapping[str, Any]) -> str:
    if not provenance:
        return ""
    plain = {name: value for name, value in provenance.items() if not isinstance(value, Mapping)}
    rows = _pairs(plain)
    for title, group in provenance.items():
        if isinstance(group, Mapping):
            rows += (
                f'<tr><th class="group" colspan="2" scope="rowgroup">{escape(str(title))}</th></tr>\n{_pairs(group)}'
            )
    return (
        f'<section>\n<h2>Provenance</h2>\n<table class="provenance">\n<tbody>\n{rows}</tbody>\n</table>\n</section>\n'
    )


def _pairs(values: Mapping[str, Any]) -> str:
    return "".join(
        f'<tr><th scope="row">{escape(str(name))}</th><td>{escape(_text(value))}</td></tr>\n'
        for name, value in values.items()
    )


def _text(value: Any) -> str:
    """Lists with commas, nothing as a dash, the rest as Python prints it."""
    if value is None or value == "":
        return "–"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_text(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return str(value)


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    paragraphs = "".join(f"<p>{escape(note)}</p>\n" for note in notes)
    return f'<section class="notes">\n<h2>Methods</h2>\n{paragraphs}</section>\n'
