# SPDX-License-Identifier: Apache-2.0
"""What the processes that Flower starts tell the command that waits for them: a line each in the run's folder."""

import json
from dataclasses import dataclass
from pathlib import Path

_FILE = "events.jsonl"
ROUND, WARNING, FAILURE, DONE = "round", "warning", "failure", "done"


@dataclass(frozen=True)
class Event:
    """A kind (ROUND, WARNING, FAILURE or DONE) and a sentence; rounds finished, and of how many, with ROUND."""

    kind: str
    text: str = ""
    finished: int = 0
    rounds: int = 1


def tell(folder: Path, event: Event) -> None:
    """Append an event; one short write, which does not mix with another process's."""
    with (Path(folder) / _FILE).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(vars(event)) + "\n")


def forget_events(folder: Path) -> None:
    """Those of an earlier start."""
    (Path(folder) / _FILE).unlink(missing_ok=True)


def read_events(folder: Path, known: int) -> list[Event]:
    """All events after the first `known`; a line that is still being written waits for the next call."""
    try:
        text = (Path(folder) / _FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [Event(**json.loads(line)) for line in text.splitlines(keepends=True)[known:] if line.endswith("\n")]
