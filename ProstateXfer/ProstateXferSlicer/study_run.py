# SPDX-License-Identifier: Apache-2.0
"""One run from nodes to nodes, or nothing: images out, a child process, results in, temporary files gone."""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import slicer

from ProstateXferLib.cohort.inputs import INPUT_TITLES, StudyInputs
from ProstateXferLib.cohort.options import StudyOptions
from ProstateXferLib.cohort.result import StudyResult
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.io import write_image
from ProstateXferSlicer.scene.results import StudyNodes, addStudy
from ProstateXferSlicer.scene.segmentations import segmentationFile
from ProstateXferSlicer.scene.transaction import nodesOrNothing
from ProstateXferSlicer.scene.volumes import imageOfVolume
from ProstateXferSlicer.temporary import temporaryPath
from ProstateXferSlicer.work.job import Job, JobOutcome, JobWatcher


@dataclass(frozen=True)
class StudyOutcome:
    """How a run ended; `nodes` and `result` are there when `job.state` is "done" and only then."""

    job: JobOutcome
    nodes: StudyNodes | None = None
    result: StudyResult | None = None


class StudyWatcher:
    """What a run tells; override what interests you. Called in the main thread."""

    def onProgress(self, step: str, fraction: float, message: str) -> None:
        """`fraction` (0..1) of the whole run is done."""

    def onWarning(self, message: str) -> None:
        """Something the user must know although the run goes on."""

    def onLog(self, line: str) -> None:
        """One line of the log."""

    def onFinished(self, outcome: StudyOutcome) -> None:
        """The run is over; called once."""


class StudyRun(JobWatcher):
    """Runs a study on nodes of the scene. Results appear together at the end; a run that fails leaves nothing."""

    def __init__(
        self,
        inputs: Mapping[str, Any],
        options: StudyOptions,
        *,
        watcher: StudyWatcher | None = None,
        process: Any = None,
        onNodes: Callable[[StudyNodes, StudyResult], None] | None = None,
    ) -> None:
        """A run that has not started.

        Args:
            inputs: fields of `StudyInputs` to nodes.
            options: what to do with them.
            watcher: told of progress, log and end.
            process: a `work.process.Process`; None is a subprocess, for a caller that waits.
            onNodes: called with the results once they are in the scene, before the watcher hears of the end.
        """
        self._inputs, self._options = dict(inputs), options
        self._watcher = watcher or StudyWatcher()
        self._process, self._onNodes = process, onNodes
        self._folder: Path | None = None
        self._job: Job | None = None
        self.outcome: StudyOutcome | None = None

    def start(self) -> None:
        """Write the images and start the child.

        Raises:
            ProstateXferError: the inputs do not fit the options, cannot be used or cannot be written.
        """
        problem = self._options.problem(StudyInputs(**{name: Path(name) for name in self._inputs}))
        if problem:
            raise ProstateXferError(problem)
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="ProstateXfer-", dir=temporaryPath()))
            files = StudyInputs(**{name: self._written(name, node) for name, node in self._inputs.items()})
            words = ["study", *files.to_arguments(), *self._options.to_arguments()]
            self._job = Job([*words, "-o", str(self._folder / "study"), "--json"], self, self._process)
            self._job.start()
        except OSError as error:
            self._clean()
            raise ProstateXferError(
                f"The images could not be handed over ({error.strerror or error}): check the free space of "
                f"{temporaryPath()}."
            ) from error
        except BaseException:
            self._clean()
            raise

    def cancel(self) -> None:
        """Stop the child and its children; nothing reaches the scene."""
        if self._job is not None:
            self._job.cancel()

    def wait(self, pump: Callable[[], None] | None = None) -> StudyOutcome:
        """Block until the run is over; `pump` is called meanwhile, to repaint the application."""
        self._job.wait(pump)
        return self.outcome

    def onProgress(self, step: str, fraction: float, message: str) -> None:
        """Pass on."""
        self._watcher.onProgress(step, fraction, message)

    def onWarning(self, message: str) -> None:
        """Pass on."""
        self._watcher.onWarning(message)

    def onLog(self, line: str) -> None:
        """Pass on."""
        self._watcher.onLog(line)

    def onFinished(self, outcome: JobOutcome) -> None:
        """Bring the results into the scene, remove the temporary files, tell the watcher."""
        result = nodes = None
        try:
            if outcome.state == "done":
                result = StudyResult.read(self._folder / "study")
                nodes = self._added(result)
        except ProstateXferError as error:
            outcome, result = replace(outcome, state="failed", error=str(error)), None
        except Exception as error:  # the edge: whatever goes wrong with the scene is told, not raised into Qt
            sentence = f"The results could not be added to the scene ({type(error).__name__}: {error})."
            outcome, result = replace(outcome, state="failed", error=sentence), None
        finally:
            self._clean()
        self.outcome = StudyOutcome(outcome, nodes, result)
        self._watcher.onFinished(self.outcome)

    def _added(self, result: StudyResult) -> StudyNodes:
        """The results as nodes that somebody keeps; where that fails, no node."""
        with nodesOrNothing():
            nodes = addStudy(result, self._nodesStillThere())
            if self._onNodes is not None:
                self._onNodes(nodes, result)
            return nodes

    def _written(self, name: str, node: Any) -> Path:
        """The node as a file for the child."""
        if name == "reference_segmentation":
            return segmentationFile(node, self._folder / f"{name}.seg.nrrd")
        return write_image(imageOfVolume(node, INPUT_TITLES[name]), self._folder / f"{name}.nrrd")

    def _nodesStillThere(self) -> dict[str, Any]:
        for name, node in self._inputs.items():
            if node.GetScene() is not slicer.mrmlScene:
                raise ProstateXferError(
                    f"The {INPUT_TITLES[name]} was removed from the scene during the run: load it and run again."
                )
        return self._inputs

    def _clean(self) -> None:
        if self._folder is not None:
            # A file that another program (a virus scanner) holds open must not turn a good run into a failed one.
            with suppress(OSError):
                shutil.rmtree(self._folder)
            self._folder = None
