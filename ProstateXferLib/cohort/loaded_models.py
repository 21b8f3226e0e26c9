# SPDX-License-Identifier: Apache-2.0
"""Models that stay loaded from one case to the next."""

from typing import TYPE_CHECKING

from ProstateXferLib.checkpoints.ensemble_card import is_ensemble
from ProstateXferLib.checkpoints.ensemble_members import find_member_paths
from ProstateXferLib.checkpoints.file_states import FileStates, file_states
from ProstateXferLib.checkpoints.loading import Checkpoint, load_checkpoint
from ProstateXferLib.checkpoints.registry import resolve
from ProstateXferLib.cohort.model_choice import cached_card
from ProstateXferLib.cohort.options import StudyOptions, Task

if TYPE_CHECKING:
    from ProstateXferLib.pipelines.segmenter import Segmenter
    from ProstateXferLib.pipelines.synthesizer import Synthesizer


class LoadedModels:
    """Checkpoints and pipelines by what they were made of: a batch loads each once."""

    def __init__(self) -> None:
        self._checkpoints: dict[tuple[FileStates, ...], Checkpoint] = {}
        self._segmenters: dict[tuple, Segmenter] = {}
        self._synthesizers: dict[tuple, Synthesizer] = {}

    def checkpoint(self, task: Task, options: StudyOptions) -> Checkpoint:
        """The checkpoint that does a task; read and hashed again only when a file that it is made of has changed.

        Those of an nnU-Net folder are its plans, its dataset and its folds, those of an ensemble also its members'.

        Raises:
            ProstateXferError: no such model, damaged, or an ensemble that lacks a member.
        """
        path = resolve(options.model_of(task), options.models_folder)
        card = cached_card(path)
        members = find_member_paths(card, path, options.models_folder) if is_ensemble(card) else ()
        key = tuple(file_states(place) for place in (path, *members))
        if key not in self._checkpoints:
            self._checkpoints[key] = load_checkpoint(path)
        return self._checkpoints[key]

    def segmenter(self, task: Task, options: StudyOptions) -> "Segmenter":
        """The segmenter for a task."""
        from ProstateXferLib.pipelines.segmenter import Segmenter

        checkpoint = self.checkpoint(task, options)
        key = (
            checkpoint.sha256,
            options.device,
            options.precision,
            options.tta,
            options.decode_everything,
            options.uncertainty,
        )
        if key not in self._segmenters:
            self._segmenters[key] = Segmenter(
                checkpoint,
                device=options.device,
                tta=options.tta,
                precision=options.precision,
                skip_outside=not options.decode_everything,
                samples=options.uncertainty,
                models_folder=options.models_folder,
            )
        return self._segmenters[key]

    def synthesizer(self, task: Task, options: StudyOptions) -> "Synthesizer":
        """The synthesizer for a task."""
        from ProstateXferLib.pipelines.synthesizer import Synthesizer

        checkpoint = self.checkpoint(task, options)
        key = (checkpoint.sha256, options.device, options.precision)
        if key not in self._synthesizers:
            self._synthesizers[key] = Synthesizer(checkpoint, device=options.device, precision=options.precision)
        return self._synthesizers[key]

    def load(self, options: StudyOptions) -> None:
        """Build every network that the options need, so that what is wrong with one is told before the first case."""
        for task in options.tasks:
            _ = self.synthesizer(task, options).network if task.is_synthesis else self.segmenter(task, options).groups
