# SPDX-License-Identifier: Apache-2.0
"""`run_batch`: the same options for many studies; what is done already is not done again."""

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ProstateXferLib.cohort.batch_tables import write_batch_tables
from ProstateXferLib.cohort.case import Case
from ProstateXferLib.cohort.engine import CaseOutcome, Engine, SerialEngine
from ProstateXferLib.cohort.loaded_models import LoadedModels
from ProstateXferLib.cohort.options import StudyOptions
from ProstateXferLib.cohort.result import StudyResult
from ProstateXferLib.cohort.resume import finished_study
from ProstateXferLib.cohort.study import run_study
from ProstateXferLib.errors import CancelledError, ProstateXferError
from ProstateXferLib.files import make_folder
from ProstateXferLib.pipelines.provenance import now_utc
from ProstateXferLib.progress import Progress, SilentProgress, raise_if_cancelled

LOG_FILE = "batch.jsonl"
CHECKING = "Looking for finished cases"


@dataclass(frozen=True)
class BatchResult:
    """Outcomes in the order of the cases, and the tables that were written."""

    folder: Path
    outcomes: tuple[CaseOutcome, ...]
    tables: tuple[Path, ...]

    def count(self, state: str) -> int:
        """How many cases ended so: "done", "failed" or "skipped"."""
        return sum(outcome.state == state for outcome in self.outcomes)


def run_batch(
    cases: Sequence[Case],
    options: StudyOptions,
    folder: Path,
    progress: Progress | None = None,
    *,
    engine: Engine | None = None,
    on_case: Callable[[CaseOutcome], None] = lambda outcome: None,
    study: Callable[..., StudyResult] = run_study,
) -> BatchResult:
    """Run the studies into `folder`/<case>; after each case write its line in batch.jsonl and the tables anew.

    A case whose folder holds the result of the same options, input bytes and model files is skipped; a case that fails
    does not stop the others.

    Args:
        cases: what to do, as `read_manifest` gives it.
        options: for all cases.
        folder: new, empty, or that of an earlier batch.
        progress: where to report and whom to ask whether to stop.
        engine: who does the cases; by default one after the other.
        on_case: told each outcome as soon as it is known.
        study: what does one case; as `run_study`.

    Raises:
        ProstateXferError: nothing could start: a model is missing, the folder is another's.
        CancelledError: the user stopped; finished cases stay.
    """
    if problem := options.problem_of_options():
        raise ProstateXferError(problem)
    progress = progress or SilentProgress()
    books = _Books(_batch_folder(folder), [case.name for case in cases], on_case)
    models = LoadedModels()
    try:
        left = _skip_finished(cases, options, books, models, progress)
        books.write_tables()
        if left:
            models.load(options)
        work = _work(books, options, models, study)
        for outcome in (engine or SerialEngine()).run(left, work, progress):
            books.enter(outcome, books.results.get(outcome.case))
            books.write_tables()
    except CancelledError as error:
        kept = sum(outcome.state != "failed" for outcome in books.outcomes.values())
        raise CancelledError(
            f"Cancelled: {kept} of {len(cases)} cases are finished and stay in '{folder}'; the same command goes on."
        ) from error
    return BatchResult(books.folder, books.ordered(), tuple(books.tables))


class _Books:
    """Outcomes and results so far, the log and the tables."""

    def __init__(self, folder: Path, names: Sequence[str], on_case: Callable[[CaseOutcome], None]) -> None:
        self.folder, self._names, self._on_case = folder, list(names), on_case
        self.outcomes: dict[str, CaseOutcome] = {}
        self.results: dict[str, StudyResult] = {}
        self.tables: list[Path] = []

    def enter(self, outcome: CaseOutcome, result: StudyResult | None) -> None:
        """Remember an outcome, append its line to the log, tell it."""
        self.outcomes[outcome.case] = outcome
        if result is not None:
            self.results[outcome.case] = result
        line = json.dumps({**outcome.to_json(), "time_utc": now_utc()}, ensure_ascii=False)
        path = self.folder / LOG_FILE
        try:
            with path.open("a", encoding="utf-8") as stream:
                stream.write(f"{line}\n")
        except OSError as error:
            raise ProstateXferError(f"'{path}' cannot be written ({error.strerror}): check free space.") from error
        self._on_case(outcome)

    def write_tables(self) -> None:
        """The tables over all results so far, in the order of the cases."""
        self.tables = write_batch_tables([self.results[n] for n in self._names if n in self.results], self.folder)

    def ordered(self) -> tuple[CaseOutcome, ...]:
        """The outcomes in the order of the cases."""
        return tuple(self.outcomes[name] for name in self._names if name in self.outcomes)


def _skip_finished(
    cases: Sequence[Case], options: StudyOptions, books: _Books, models: LoadedModels, progress: Progress
) -> list[Case]:
    """Enter what is done already, all of it first, so that the tables never lose a row; the cases that are left."""
    left = []
    for number, case in enumerate(cases):
        raise_if_cancelled(progress)
        progress.update(CHECKING, 0.0, f"{number + 1} of {len(cases)}")
        clock = time.perf_counter()
        finished = finished_study(books.folder / case.name, case.inputs, options, models)
        if finished is None:
            left.append(case)
        else:
            books.enter(_outcome(case, books.folder, "skipped", clock), finished)
    return left


def _work(
    books: _Books, options: StudyOptions, models: LoadedModels, study: Callable[..., StudyResult]
) -> Callable[[Case, Progress], CaseOutcome]:
    def work(case: Case, progress: Progress) -> CaseOutcome:
        clock = time.perf_counter()
        try:
            result = study(case.inputs, options, books.folder / case.name, progress, case.name, models=models)
        except CancelledError:
            raise
        except ProstateXferError as error:
            return _outcome(case, books.folder, "failed", clock, str(error))
        books.results[case.name] = result
        return _outcome(case, books.folder, "done", clock)

    return work


def _outcome(case: Case, folder: Path, state: str, clock: float, message: str = "") -> CaseOutcome:
    seconds = round(time.perf_counter() - clock, 3)
    return CaseOutcome(case=case.name, state=state, seconds=seconds, message=message, folder=folder / case.name)


def _batch_folder(folder: Path) -> Path:
    """The folder, made where it is missing, with its log; refused where it holds something else."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ProstateXferError(f"'{folder}' is a file, and a folder is needed: choose another name.")
    if folder.is_dir() and not (folder / LOG_FILE).is_file():
        others = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
        if others:
            raise ProstateXferError(
                f"The folder '{folder}' holds files that are no batch ({others[0]}): choose an empty or a new folder."
            )
    make_folder(folder)
    if not os.access(folder, os.W_OK):
        raise ProstateXferError(f"The folder '{folder}' is not writable: choose another.")
    (folder / LOG_FILE).touch()
    return folder
