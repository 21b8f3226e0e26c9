# SPDX-License-Identifier: Apache-2.0
"""What one study gave: the content of its study.json."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ProstateXferLib.cohort.inputs import StudyInputs
from ProstateXferLib.cohort.options import StudyOptions
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import write_text
from ProstateXferLib.metrics.measurement import Measurement

FORMAT = "ProstateXfer study 1"
STUDY_FILE = "study.json"
_VECTORS = ("centroid_lps", "centroid_ras", "extent_mm", "offset_from_gland_lps")


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """One finished study.

    Attributes:
        folder: where the outputs lie.
        case: name of the case.
        inputs: the files it was made from; the image hashes tell whether they are still the same.
        options: what was asked for.
        image_sha256: input name -> hash over voxels and geometry (`pipelines.provenance.image_sha256`).
        file_sha256: input name -> hash over the file's bytes (of a folder: over its files' names and bytes).
        outputs: key -> file name in the folder. Keys: segmentation, uncertainty, samples, ct-from-mr, ct-from-cbct,
            ct-from-mr-difference, ct-from-cbct-difference, measurements.
        measurements: rows as `metrics.measure` gives them.
        sampled_by: what the samples are that the rows tell of ("members", "folds", "mirrorings"); "" without samples.
        synthesis: "ct-from-mr" or "ct-from-cbct" -> errors in HU and the compared share; empty without a reference CT.
        warnings: what the user must know, in the order in which it arose.
        provenance: "segmentation", "ct-from-mr" or "ct-from-cbct" -> models, versions, device, seconds (`Provenance`).
        models: what the cards of the models say, one entry for each model.
        seconds: duration of the whole run.
        edited: a person has changed the segmentation after the run.
    """

    folder: Path
    case: str
    inputs: StudyInputs
    options: StudyOptions
    image_sha256: Mapping[str, str] = field(default_factory=dict)
    file_sha256: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    measurements: tuple[Measurement, ...] = ()
    synthesis: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    provenance: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    models: tuple[Mapping[str, Any], ...] = ()
    seconds: float = 0.0
    edited: bool = False
    sampled_by: str = ""

    def path(self, output: str) -> Path | None:
        """The file of an output, None where the study has no such output."""
        return self.folder / self.outputs[output] if output in self.outputs else None

    def write(self) -> Path:
        """Write study.json into the folder, whole or not at all, and return its path."""
        return write_text(self.folder / STUDY_FILE, json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n")

    def to_json(self) -> dict[str, Any]:
        """The content of study.json: plain values, NaN as null."""
        inputs = {
            name: {
                "path": str(path),
                "image_sha256": self.image_sha256.get(name),
                "file_sha256": self.file_sha256.get(name),
            }
            for name, path in self.inputs.given().items()
        }
        return plain(
            {
                "format": FORMAT,
                "case": self.case,
                "edited": self.edited,
                "inputs": inputs,
                "options": self.options.to_json(),
                "outputs": self.outputs,
                "measurements": [asdict(row) for row in self.measurements],
                "sampled_by": self.sampled_by,
                "synthesis": self.synthesis,
                "warnings": self.warnings,
                "provenance": self.provenance,
                "models": self.models,
                "seconds": self.seconds,
                "intended_use": "Research use only; not a medical device and not for clinical decisions.",
            }
        )

    @classmethod
    def read(cls, folder: Path) -> "StudyResult":
        """The result in a study folder.

        Raises:
            ProstateXferError: no study.json, not of this format, or damaged.
        """
        folder = Path(folder)
        path = folder / STUDY_FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ProstateXferError(
                f"'{folder}' is no study folder (it has no {STUDY_FILE}): choose one that prostatexfer study made."
            ) from error
        except OSError as error:
            raise ProstateXferError(f"'{path}' cannot be read ({error.strerror}): check its rights.") from error
        except ValueError as error:
            raise ProstateXferError(f"'{path}' is damaged (no JSON): run the study again.") from error
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ProstateXferError(f"'{path}' is not of the format '{FORMAT}': run the study again with this version.")
        try:
            return cls._from_json(values, folder)
        except (TypeError, LookupError, AttributeError, ValueError) as error:
            raise ProstateXferError(f"'{path}' is malformed ({error}): run the study again.") from error

    @classmethod
    def _from_json(cls, values: dict[str, Any], folder: Path) -> "StudyResult":
        inputs = values["inputs"]
        if outside := [name for name in values["outputs"].values() if Path(name).name != name]:
            raise ValueError(f"the output '{outside[0]}' lies outside the folder")
        return cls(
            folder=folder,
            case=values["case"],
            inputs=StudyInputs(**{name: Path(entry["path"]) for name, entry in inputs.items()}),
            options=StudyOptions.from_json(values["options"]),
            image_sha256=_known(inputs, "image_sha256"),
            file_sha256=_known(inputs, "file_sha256"),
            outputs=values["outputs"],
            measurements=tuple(measurement_from_json(row) for row in values["measurements"]),
            sampled_by=values.get("sampled_by", ""),  # earlier studies have none
            synthesis=values["synthesis"],
            warnings=tuple(values["warnings"]),
            provenance=values["provenance"],
            models=tuple(values["models"]),
            seconds=values["seconds"],
            edited=values["edited"],
        )

    def moved_to(self, folder: Path) -> "StudyResult":
        """The same result in another folder."""
        return replace(self, folder=Path(folder))


def _known(inputs: Mapping[str, Mapping[str, Any]], key: str) -> dict[str, str]:
    """The hashes of the inputs that were read; the others have none."""
    return {name: entry[key] for name, entry in inputs.items() if entry[key] is not None}


def measurement_from_json(values: Mapping[str, Any]) -> Measurement:
    """The row of an entry that `asdict` and JSON made lists of."""
    vectors = {name: tuple(values[name]) for name in _VECTORS if values.get(name) is not None}
    bounds = values.get("bounds_lps")
    if bounds is not None:
        vectors["bounds_lps"] = tuple(tuple(corner) for corner in bounds)
    return Measurement(**{**values, **vectors})


def plain(value: Any) -> Any:
    """The value in JSON's types: tuples as lists, NaN and infinity as null, NumPy's numbers as Python's."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
