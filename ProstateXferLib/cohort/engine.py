# SPDX-License-Identifier: Apache-2.0
"""How the cases of a batch are worked off: one after the other here; others may follow the same contract."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from ProstateXferLib.cohort.case import Case
from ProstateXferLib.progress import Progress, SubProgress, raise_if_cancelled


@dataclass(frozen=True, kw_only=True)
class CaseOutcome:
    """How one case of a batch ended; `message` is the sentence of a failure."""

    case: str
    state: Literal["done", "failed", "skipped"]
    seconds: float
    message: str
    folder: Path

    def to_json(self) -> dict[str, Any]:
        """Plain values for a line of JSON."""
        return asdict(self) | {"folder": str(self.folder)}


CaseWork = Callable[[Case, Progress], CaseOutcome]


class Engine(Protocol):
    """Something that does cases: here, in other processes, on a cluster."""

    def run(self, cases: Sequence[Case], work: CaseWork, progress: Progress) -> Iterator[CaseOutcome]:
        """Yield each outcome as soon as it is known, in any order.

        `work` never raises for what is wrong with a case; `CancelledError` goes through.
        """


class SerialEngine:
    """One case after the other, in their order."""

    def run(self, cases: Sequence[Case], work: CaseWork, progress: Progress) -> Iterator[CaseOutcome]:
        """Yield the outcomes in order; reports carry the number and the name of the case."""
        for number, case in enumerate(cases):
            raise_if_cancelled(progress)
            part = SubProgress(progress, number / len(cases), (number + 1) / len(cases))
            yield work(case, _NamedProgress(part, case.name, f"{number + 1} of {len(cases)}"))


class _NamedProgress:
    """Progress of one case among others: its name before what it says."""

    def __init__(self, inner: Progress, case: str, place: str) -> None:
        self._inner, self._case, self._place = inner, case, place

    def update(self, step: str, fraction: float, message: str = "") -> None:
        """Pass on with the case's place and name."""
        self._inner.update(f"{self._place}, {self._case}: {step}", fraction, message)

    def warn(self, message: str) -> None:
        """Pass on with the case's name."""
        self._inner.warn(f"{self._case}: {message}")

    def cancelled(self) -> bool:
        """Ask the batch."""
        return self._inner.cancelled()
