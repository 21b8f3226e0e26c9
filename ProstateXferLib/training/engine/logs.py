# SPDX-License-Identifier: Apache-2.0
"""What a stage writes down while it runs: metrics.jsonl for programs, TensorBoard for people."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from ProstateXferLib.files import write_text

METRICS_FILE = "metrics.jsonl"
TRAIN, VALIDATION = "train", "validation"


class Logs:
    """Logs of one stage folder.

    Args:
        folder: the stage's folder.
        step: step that the run goes on from; what was written about later ones is taken back.
        validated: step of the last validation that counts.
    """

    def __init__(self, folder: Path, *, step: int, validated: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._path = folder / METRICS_FILE
        _cut_back(self._path, {TRAIN: step, VALIDATION: validated})
        self._board = SummaryWriter(folder / "tensorboard", purge_step=step + 1 if step else None)

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Append one line ({"kind", "step", name: value}) and draw its points; values that are not finite are null."""
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"kind": kind, "step": step, **finite}) + "\n")
        for name, value in values.items():
            self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Write out what TensorBoard still holds."""
        self._board.close()


def read_metrics(folder: Path) -> list[dict]:
    """The lines of a stage's metrics.jsonl; a last one that was cut off by a kill is left out."""
    path = folder / METRICS_FILE
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


def _cut_back(path: Path, last: Mapping[str, int]) -> None:
    kept = [line for line in read_metrics(path.parent) if line["step"] <= last.get(line["kind"], 0)]
    write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
