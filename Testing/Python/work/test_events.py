# SPDX-License-Identifier: Apache-2.0
"""Bytes in any pieces become events and log lines."""

import json

import pytest

from ProstateXferSlicer.work import lines
from ProstateXferSlicer.work.events import EventReader
from ProstateXferSlicer.work.lines import LineReader


class Told:
    def __init__(self):
        self.events, self.log = [], []
        self.reader = EventReader(self.events.append, self.log.append)

    def feed(self, *chunks):
        for chunk in chunks:
            self.reader.feed(chunk)
        self.reader.close()
        return self


PROGRESS = {"event": "progress", "step": "segment", "fraction": 0.5, "message": "Schicht 3 – cm³"}


def test_events_are_told_from_log_lines():
    told = Told().feed(b"hello\n" + json.dumps(PROGRESS).encode() + b"\nworld\n")
    assert told.events == [PROGRESS]
    assert told.log == ["hello", "world"]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_it_does_not_matter_where_the_pieces_are_cut(size):
    data = f"grün\r\n{json.dumps(PROGRESS, ensure_ascii=False)}\r\nAnfang".encode()
    told = Told().feed(*(data[k : k + size] for k in range(0, len(data), size)))
    assert told.events == [PROGRESS]
    assert told.log == ["grün", "Anfang"]


def test_a_line_comes_as_soon_as_it_is_complete_and_the_last_one_at_the_end():
    told = Told()
    told.reader.feed(b"one\ntw")
    assert told.log == ["one"]
    told.reader.feed(b"o")
    told.reader.close()
    told.reader.close()
    assert told.log == ["one", "two"]


def test_bytes_that_are_no_utf8_are_replaced():
    assert Told().feed(b"gr\xfcn \xff\n").log == ["gr\ufffdn \ufffd"]


@pytest.mark.parametrize(
    "line",
    [
        '{"event": "progress"',
        '{"no event": 1}',
        '{"event": 3}',
        '["event"]',
        "{'event': 'progress'}",
        "{}",
        "42",
        "[" * 100_000,
        '{"event":' * 100_000,
    ],
    ids=lambda line: line[:20],
)
def test_what_only_looks_like_an_event_is_a_log_line(line):
    told = Told().feed(line.encode() + b"\n")
    assert (told.events, told.log) == ([], [line])


def test_a_progress_bar_that_rewrites_its_line_gives_lines():
    assert Told().feed(b"\r 10%\r 20%\r100%\n").log == [" 10%", " 20%", "100%"]


def test_empty_lines_are_left_out():
    assert Told().feed(b"\n\r\n\na\n\n").log == ["a"]


def test_a_line_without_end_is_cut_and_the_next_one_is_whole(monkeypatch):
    monkeypatch.setattr(lines, "LONGEST_LINE_BYTES", 5000)
    told = []
    reader = LineReader(told.append)
    for _ in range(1000):
        reader.feed(b"x" * 1000)
    assert len(reader._pending) == 5000
    reader.feed(b"\nnext\n")
    assert told == ["x" * lines.KEPT_OF_CUT_LINE + "…", "next"]


def test_a_long_event_is_read():
    event = {"event": "result", "rows": ["x" * 1000] * 1000}
    data = json.dumps(event).encode() + b"\n"
    assert Told().feed(*(data[k : k + 65536] for k in range(0, len(data), 65536))).events == [event]
