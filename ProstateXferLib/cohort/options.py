# SPDX-License-Identifier: Apache-2.0
"""What to do with a study: one frozen class for the Slicer panel, the command line and the batch.

The panel asks `StudyOptions.problem` at every click: nothing here loads PyTorch, and model cards are read once.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ProstateXferLib.cohort.inputs import INPUT_NAMES, INPUT_TITLES, StudyInputs, input_of_sequence
from ProstateXferLib.cohort.task import Task
from ProstateXferLib.errors import ProstateXferError

if TYPE_CHECKING:
    from ProstateXferLib.checkpoints.card import ModelCard

__all__ = ["StudyInputs", "StudyOptions", "Task"]

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
_MODEL_FIELDS = {
    Task.PROSTATE: "prostate_model",
    Task.DIL: "dil_model",
    Task.CT_FROM_MR: "ct_from_mr_model",
    Task.CT_FROM_CBCT: "ct_from_cbct_model",
}
# The image of a task is one of several that there may be; the maps belong to it.
_ASKED = {name: f"{'a' if name in ('t2w', 'cbct') else 'the'} {title}" for name, title in INPUT_TITLES.items()}
# They say how fast or from where, and not what comes out; the files of the models have checksums of their own.
_WITHOUT_EFFECT = ("threads", "models_folder", *_MODEL_FIELDS.values())


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """Options of one run.

    Attributes:
        tasks: what to do, in any order.
        prostate_model, dil_model, ct_from_mr_model, ct_from_cbct_model: a registered name or the path of a checkpoint.
        models_folder: a folder of models that is searched before all others.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        precision: "auto", "fp32", "bf16" or "fp16".
        tta: average over four mirrorings (four times the work of the segmentation).
        decode_everything: decode outside the body and the gland, too.
        uncertainty: write the uncertainty of the segmentation.
        threads: CPU threads; None leaves the choice to PyTorch.
    """

    tasks: tuple[Task, ...] = (Task.PROSTATE, Task.DIL)
    prostate_model: str = "prostate-dil-small"
    dil_model: str = "prostate-dil-small"
    ct_from_mr_model: str = "dgcf-mr-to-ct-small"
    ct_from_cbct_model: str = "dgcf-cbct-to-ct-small"
    models_folder: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    tta: bool = False
    decode_everything: bool = False
    uncertainty: bool = True
    threads: int | None = None

    def __post_init__(self) -> None:
        """Bring tasks into one order, so that equal choices are equal options; refuse words that are no task."""
        chosen = [self.tasks] if isinstance(self.tasks, str) else list(self.tasks)
        if unknown := [task for task in chosen if task not in list(Task)]:
            raise ProstateXferError(f"The task '{unknown[0]}' is not known: use {', '.join(Task)}.")
        object.__setattr__(self, "tasks", tuple(task for task in Task if task in chosen))
        for name in _MODEL_FIELDS.values():
            object.__setattr__(self, name, str(getattr(self, name)))
        if self.models_folder is not None:
            object.__setattr__(self, "models_folder", Path(self.models_folder))

    def model_of(self, task: Task) -> str:
        """The name or path of the model that does a task."""
        return getattr(self, _MODEL_FIELDS[task])

    def problem(self, inputs: StudyInputs) -> str | None:
        """Why this cannot run, in one sentence for the user; None when it can.

        Only which inputs are given counts, not whether their files exist: the panel asks before it writes them.
        """
        if not self.tasks:
            return "Choose at least one task: Prostate, DIL, CT from MR or CT from CBCT."
        return self._missing_images(inputs) or self.problem_of_options()

    def problem_of_options(self) -> str | None:
        """As `problem`, but without asking for images: what is wrong with a batch before its first case."""
        if not _DEVICE.fullmatch(self.device):
            return f"The device '{self.device}' is not known: use auto, cpu, cuda, cuda:N or mps."
        if self.precision not in PRECISIONS:
            return f"The precision '{self.precision}' is not known: use {', '.join(PRECISIONS)}."
        if self.threads is not None and self.threads < 1:
            return f"{self.threads} CPU threads cannot be used: choose at least 1."
        if self.models_folder is not None and not self.models_folder.expanduser().is_dir():
            return f"The models folder '{self.models_folder}' does not exist: choose another one or none."
        problems = (self._fitting_model(task)[1] for task in self.tasks)
        return next((problem for problem in problems if problem), None)

    def to_arguments(self) -> list[str]:
        """The words of the command line that mean these options (no shell in between); inverse of `from_arguments`."""
        words = ["--tasks", *(str(task) for task in self.tasks)]
        for name in (*_MODEL_FIELDS.values(), "models_folder", "device", "precision", "threads"):
            value = getattr(self, name)
            if value is not None:
                words.append(f"--{name.replace('_', '-')}={value}")
        words += ["--tta"] * self.tta + ["--decode-everything"] * self.decode_everything
        return [*words, "--uncertainty" if self.uncertainty else "--no-uncertainty"]

    @classmethod
    def from_arguments(cls, namespace: Any) -> "StudyOptions":
        """The options of a parsed command line (argparse.Namespace with a value for every field)."""
        return cls(**{field.name: getattr(namespace, field.name) for field in fields(cls)})

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` reads them back."""
        folder = None if self.models_folder is None else str(self.models_folder)
        return asdict(self) | {"tasks": [str(task) for task in self.tasks], "models_folder": folder}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "StudyOptions":
        """The options of a study.json."""
        return cls(**values)

    def fingerprint(self) -> str:
        """sha256 over everything here that changes a result; the models' files count by their own sha256."""
        values = {name: value for name, value in self.to_json().items() if name not in _WITHOUT_EFFECT}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def _missing_images(self, inputs: StudyInputs) -> str | None:
        """ "Choose a T2w image and the ADC map for DIL, or another model: 'mine' takes T2w and ADC." """
        given = inputs.given()
        lacking: dict[str, list[str]] = {}
        readers: dict[str, tuple[str, ...]] = {}
        for task in self.tasks:
            card, own = self._fitting_model(task)[0], input_of_sequence(task.sequence)
            read = [] if card is None else [input_of_sequence(sequence) for sequence in card.inputs]
            missing = [name for name in dict.fromkeys([own, *read]) if name not in given]
            for name in missing:
                lacking.setdefault(name, []).append(task.title)
            if any(name != own for name in missing):
                readers[card.name] = card.inputs
        if not lacking:
            return None
        together: dict[tuple[str, ...], list[str]] = {}
        for name in sorted(lacking, key=INPUT_NAMES.index):
            together.setdefault(tuple(lacking[name]), []).append(_ASKED[name])
        parts = [f"{_listed(images)} for {_listed(titles)}" for titles, images in together.items()]
        asked = f"Choose {', and '.join(parts)}"
        if not readers:
            return f"{asked}."
        takes = _listed([f"'{name}' takes {_listed(sequences)}" for name, sequences in readers.items()])
        return f"{asked}, or {'another model' if len(readers) == 1 else 'other models'}: {takes}."

    def _fitting_model(self, task: Task) -> tuple["ModelCard | None", str | None]:
        """The card of the model for a task, or None and why it cannot do it."""
        from ProstateXferLib.cohort.model_choice import card_of
        from ProstateXferLib.cohort.model_fit import why_not

        try:
            card = card_of(self.model_of(task), self.models_folder)
        except ProstateXferError as error:
            return None, str(error)
        reason = why_not(card, task)
        return (card, None) if reason is None else (None, reason)


def _listed(words: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
