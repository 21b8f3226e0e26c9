# SPDX-License-Identifier: Apache-2.0
"""The last run as files for others: measurements as CSV, the study as one HTML page, edits included."""

import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from ProstateXferLib.cohort.inputs import INPUT_TITLES, StudyInputs
from ProstateXferLib.cohort.result import STUDY_FILE, StudyResult
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import require_folder_of, write_text
from ProstateXferLib.images.io import write_image
from ProstateXferLib.reports.table import write_measurements_csv
from ProstateXferSlicer.scene.parameters import USED_INPUTS, measurementsOf
from ProstateXferSlicer.scene.segmentations import segmentationFile
from ProstateXferSlicer.scene.volumes import imageOfVolume
from ProstateXferSlicer.temporary import temporaryPath
from ProstateXferSlicer.work.job import Job, JobOutcome, JobWatcher

# Key of the study's outputs -> the parameter that holds its node.
_NODE_OF_OUTPUT = {
    "segmentation": "segmentation",
    "uncertainty": "uncertaintyMap",
    "samples": "samples",
    "ct-from-mr": "syntheticCtFromMr",
    "ct-from-cbct": "syntheticCtFromCbct",
    "ct-from-mr-difference": "differenceFromMr",
    "ct-from-cbct-difference": "differenceFromCbct",
}


def exportCsv(parameters: Any, path: Path) -> Path:
    """Write the table as CSV.

    Raises:
        ProstateXferError: there is no table, or the file cannot be written.
    """
    if parameters.measurements is None:
        raise ProstateXferError(_("There are no measurements yet: run Prostate or DIL first."))
    return write_measurements_csv(measurementsOf(parameters), path)


class ReportExport(JobWatcher):
    """Hands the nodes of the last run to `prostatexfer report`; the page appears whole or not at all."""

    def __init__(
        self,
        parameters: Any,
        path: Path,
        process: Any = None,
        onFinished: Callable[[JobOutcome], None] | None = None,
    ) -> None:
        self._parameters, self._path, self._process = parameters, path, process
        self._tell = onFinished
        self._folder: Path | None = None
        self._job: Job | None = None
        self.outcome: JobOutcome | None = None

    def start(self) -> None:
        """Write the study and start the child.

        Raises:
            ProstateXferError: there is no run to report on, its nodes are gone or cannot be written, or there is no
                folder for the page.
        """
        if not self._parameters.studyRecord:
            raise ProstateXferError(_("There are no results yet: run first."))
        require_folder_of(self._path)
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="ProstateXfer-", dir=temporaryPath()))
            self._write()
            self._job = Job(["report", str(self._folder), "-o", str(self._path), "--json"], self, self._process)
            self._job.start()
        except OSError as error:
            self._clean()
            raise ProstateXferError(
                _("The study could not be handed over ({reason}): check the free space of {folder}.").format(
                    reason=error.strerror or error, folder=temporaryPath()
                )
            ) from error
        except BaseException:
            self._clean()
            raise

    def cancel(self) -> None:
        """Stop writing; no page is left."""
        if self._job is not None:
            self._job.cancel()

    def wait(self, pump: Callable[[], None] | None = None) -> Path:
        """Block until the page is written and return its path.

        Raises:
            ProstateXferError: it could not be written.
        """
        outcome = self._job.wait(pump)
        if outcome.state != "done":
            raise ProstateXferError(outcome.error or _("The report was cancelled."))
        return self._path

    def onFinished(self, outcome: JobOutcome) -> None:
        """Remove the temporary files; tell who asked."""
        self._clean()
        self.outcome = outcome
        if self._tell is not None:
            self._tell(outcome)

    def _write(self) -> None:
        write_text(self._folder / STUDY_FILE, self._parameters.studyRecord)
        run = StudyResult.read(self._folder)
        source = self._parameters.measuredImage or self._parameters.usedCbct
        replace(
            run,
            case=run.case if source is None else source.GetName(),
            inputs=StudyInputs(**{name: self._input(name) for name in self._inputsOf(run)}),
            outputs={key: self._output(key, name) for key, name in run.outputs.items() if self._isWanted(key)},
            measurements=tuple(measurementsOf(self._parameters)),
            edited=self._parameters.edited,
        ).write()

    def _inputsOf(self, run: StudyResult) -> list[str]:
        """The inputs of the run; the reference segmentation that was measured with last, if any."""
        names = [name for name in run.inputs.given() if name != "reference_segmentation"]
        compared = self._parameters.usedReferenceSegmentation is not None
        return [*names, "reference_segmentation"] if compared else names

    def _isWanted(self, key: str) -> bool:
        """Whether an output belongs to the page; the samples are of the run, and not of what was edited since."""
        if key == "samples":
            return self._parameters.samples is not None and not self._parameters.edited
        return key in _NODE_OF_OUTPUT

    def _input(self, name: str) -> Path:
        node, title = getattr(self._parameters, USED_INPUTS[name]), INPUT_TITLES[name]
        if node is None:
            raise ProstateXferError(
                _("The {title} of the last run was removed from the scene: run again.").format(title=title)
            )
        if name == "reference_segmentation":
            return segmentationFile(node, self._folder / f"{name}.seg.nrrd")
        return write_image(imageOfVolume(node, title), self._folder / f"{name}.nrrd")

    def _output(self, key: str, name: str) -> str:
        node = getattr(self._parameters, _NODE_OF_OUTPUT[key])
        if node is None:
            raise ProstateXferError(
                _("The {name} of the last run was removed from the scene: run again.").format(name=key)
            )
        if key in ("segmentation", "samples"):
            segmentationFile(node, self._folder / name)
        else:
            write_image(imageOfVolume(node, key), self._folder / name)
        return name

    def _clean(self) -> None:
        if self._folder is not None:
            with suppress(OSError):
                shutil.rmtree(self._folder)
            self._folder = None
