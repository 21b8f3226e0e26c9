# SPDX-License-Identifier: Apache-2.0
"""The report is one well-formed, self-contained file in which nothing from outside is markup."""

import base64
import re
import zlib
from html.parser import HTMLParser

import pytest

from ProstateXferLib.reports import Figure, Page, Table, render_page, write_page

VOID = {"meta", "img", "br", "hr", "link", "input", "col"}
# A whole 1 x 1 PNG.
PNG = b"\x89PNG\r\n\x1a\n" + b"".join(
    len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
    for kind, data in (
        (b"IHDR", bytes((0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0))),
        (b"IDAT", zlib.compress(b"\x00\x80")),
        (b"IEND", b""),
    )
)
NASTY = "<script>alert(\"1\")</script> & <b>'x'</b>"


class Reader(HTMLParser):
    """Tags opened and closed in order, attributes and text."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data


def read(html):
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture
def page():
    return Page(
        title="Prostate report",
        subtitle="Study 17",
        notes=("Segmented slice by slice.",),
        warnings=("The prostate touches the image border.",),
        figures=(Figure("Axial slices", "Right is left.", PNG), Figure("Coronal", "From the front.", PNG)),
        tables=(
            Table(
                "Measurements",
                ("Structure", "Volume"),
                (("Prostate", "41.20"), ("DIL L1", "0.84")),
                "In mL.",
                units=("", "cm³"),
                indented=frozenset({1}),
            ),
        ),
        provenance={
            "Device": "CPU",
            "Model": {"Name": "demo", "SHA-256": "ab" * 32, "Versions": ("1", "2")},
            "Fold": None,
        },
    )


def test_every_part_of_the_page_is_there(page):
    text = read(render_page(page)).text
    for words in (
        "Prostate report",
        "Study 17",
        "Segmented slice by slice.",
        "The prostate touches the image border.",
        "Axial slices",
        "Right is left.",
        "41.20",
        "cm³",
        "In mL.",
        "SHA-256",
        "ab" * 32,
        "1, 2",
        "CPU",
    ):
        assert words in text


def test_research_use_is_said_before_anything_else_but_the_title(page):
    reader = read(render_page(page))
    body = reader.text.split("Prostate report")[-1]
    assert body.index("Research use only – not for clinical decisions") < body.index("Please check")


def test_nothing_is_fetched_and_nothing_runs(page):
    html = render_page(page)
    reader = read(html)
    assert "script" not in reader.tags
    assert "link" not in reader.tags
    links = [value for _, name, value in reader.attributes if name in {"src", "href", "srcset", "action", "data"}]
    assert links
    assert all(value.startswith("data:image/png;base64,") for value in links)
    assert not [name for _, name, _ in reader.attributes if name.startswith("on")]
    assert not re.search(r"https?://|@import|url\(", html)


def test_pictures_are_inside_the_page(page):
    sources = [value for tag, name, value in read(render_page(page)).attributes if (tag, name) == ("img", "src")]
    assert [base64.b64decode(source.partition(",")[2]) for source in sources] == [PNG, PNG]


@pytest.mark.parametrize(
    ("last", "words"),
    [(("41.2 (39.8–44.0)", "–"), False), (("-3 %", ""), False), (("", "cut by image edge"), True)],
)
def test_only_a_last_column_of_words_reads_from_the_left(last, words):
    table = Table("t", ("Structure", "Value"), (("Prostate", last[0]), ("DIL", last[1])))
    html = render_page(Page(title="p", tables=(table,)))
    assert (("table", "class", "remarks") in read(html).attributes) is words
    assert "table.remarks th:last-child, table.remarks td:last-child { text-align: left; }" in html


def test_every_word_from_outside_is_escaped():
    nasty = Page(
        title=NASTY,
        subtitle=NASTY,
        notes=(NASTY,),
        warnings=(NASTY,),
        figures=(Figure(NASTY, NASTY, PNG),),
        tables=(Table(NASTY, (NASTY,), ((NASTY,),), NASTY, units=(NASTY,)),),
        provenance={NASTY: NASTY, "group" + NASTY: {NASTY: [NASTY]}},
    )
    html = render_page(nasty)
    assert "<script" not in html
    assert "<b>" not in html
    reader = read(html)
    assert reader.text.count(NASTY) == 17
    assert ("img", "alt", NASTY) in reader.attributes


def test_an_empty_page_has_no_empty_sections():
    reader = read(render_page(Page(title="Nothing")))
    assert "section" not in reader.tags
    assert reader.text.count("Research use only") == 2


def test_the_file_is_utf8_and_whole(page, tmp_path):
    path = write_page(page, tmp_path / "report.html")
    assert path.read_text(encoding="utf-8") == render_page(page)
    assert list(tmp_path.iterdir()) == [path]
