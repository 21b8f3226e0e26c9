# SPDX-License-Identifier: Apache-2.0
"""The model card: everything a pipeline needs to know about a checkpoint, and everything its user should."""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from ProstateXferLib.checkpoints.architectures import ARCHITECTURES, ENSEMBLE, TASKS
from ProstateXferLib.checkpoints.calibration import Calibration, check_calibrations
from ProstateXferLib.checkpoints.network_fit import check_fit
from ProstateXferLib.checkpoints.preprocessing import Preprocessing
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.structures import Structure

CARD_VERSION = 1
RESEARCH_ONLY = "Research use only; not a medical device and not for clinical decisions."


@dataclass(frozen=True)
class Head:
    """One decoder head of a segmentation model.

    Attributes:
        name: the head's name in the weights ("segmentation" for a single published head). A dense network's channels
            are those of its heads in a row, the background of each first.
        values: label value in the output for each class after the background, in class order.
        within: name of the structure around which alone this head is decoded, None for the whole image.
        margin_mm: how far beyond that structure it may find something.
        smoothing_mm: standard deviation of a Gaussian over the probabilities, the same in all three directions; gives a
            2-D network's result coherence between slices.
        min_volume_cm3: connected components smaller than this are removed.
        largest_only: keep the largest connected component alone (a gland is one).
        threshold: probability from which on a structure is there, the most probable one where several are; None takes
            the class with the highest probability, the background included.
        overlapping: the structures are regions that may overlap (nnU-Net): a channel each and none for the background,
            each there above a probability of one half, later ones written over earlier ones.
    """

    name: str
    values: tuple[int, ...]
    within: str | None = None
    margin_mm: float = 0.0
    smoothing_mm: float = 0.0
    min_volume_cm3: float = 0.0
    largest_only: bool = False
    threshold: float | None = None
    overlapping: bool = False

    def __post_init__(self) -> None:
        if self.threshold is not None and not (isinstance(self.threshold, int | float) and 0 < self.threshold < 1):
            raise ProstateXferError(f"Head '{self.name}': the threshold must be between 0 and 1, not {self.threshold}.")

    @property
    def classes(self) -> int:
        """Channels of its logits."""
        return len(self.values) + (not self.overlapping)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a model card; what the first cards did not have only where it says something."""
        values = dataclasses.asdict(self)
        if self.threshold is None:
            del values["threshold"]
        if not self.overlapping:
            del values["overlapping"]
        return values


@dataclass(frozen=True)
class Score:
    """One result on cases that the model never saw: metric, value, data, number of cases."""

    metric: str
    value: float
    data: str
    cases: int


@dataclass(frozen=True)
class ModelCard:
    """What a checkpoint is, how to run it, what it was trained on and how far to trust it.

    Attributes:
        name: short name, unique in the registry.
        task: "segmentation", "synthesis" or "encoder".
        architecture: one of `ARCHITECTURES` (checkpoints/architectures.py).
        arguments: JSON values that the state dict alone does not tell: eps, rope_dtype, blocks of a DINOv3; all of a
            dense network's.
        inputs: sequence names in channel order: "T2w", "CBCT", ...
        preprocessing: None for encoders and ensembles.
        structures: what the label values mean (segmentation).
        heads: the decoder heads (segmentation).
        hu_range: HU of network output -1 and 1 (synthesis).
        training_data, licence, citation, intended_use: plain sentences.
        scores: results on cases never seen in training.
        history: stages and imports that led here, oldest first (file names and sha256 of what each started from).
        calibration: a temperature for some of the structures (docs/ensembles.md); of these weights and no others.
    """

    name: str
    task: str
    architecture: str
    title: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ("T2w",)
    preprocessing: Preprocessing | None = None
    structures: tuple[Structure, ...] = ()
    heads: tuple[Head, ...] = ()
    hu_range: tuple[float, float] | None = None
    training_data: str = "not stated"
    licence: str = "not stated"
    citation: str = ""
    intended_use: str = RESEARCH_ONLY
    scores: tuple[Score, ...] = ()
    history: tuple[dict[str, Any], ...] = ()
    calibration: tuple[Calibration, ...] = ()

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ProstateXferError(f"Model card '{self.name}': task '{self.task}' is none of {', '.join(TASKS)}.")
        if self.architecture not in ARCHITECTURES:
            raise ProstateXferError(
                f"Model card '{self.name}': architecture '{self.architecture}' is not known to this version "
                f"({', '.join(ARCHITECTURES)}); update ProstateXfer."
            )
        if ARCHITECTURES[self.architecture].task != self.task:
            raise ProstateXferError(
                f"Model card '{self.name}': the architecture '{self.architecture}' cannot do the task '{self.task}'."
            )
        if self.task == "segmentation":
            self._check_heads()
        span = self.hu_range or ()
        if self.task == "synthesis" and not (len(span) == 2 and span[0] < span[1]):
            raise ProstateXferError(f"Model card '{self.name}': a synthesis model needs an increasing hu_range.")
        bare = self.task == "encoder" or self.architecture == ENSEMBLE  # an ensemble's members have their own
        if (self.preprocessing is None and not bare) or (self.task != "encoder" and not self.inputs):
            raise ProstateXferError(f"Model card '{self.name}': the preprocessing or the input's name is missing.")
        if self.architecture == ENSEMBLE and self.preprocessing is not None:
            raise ProstateXferError(f"Model card '{self.name}': an ensemble has no preprocessing, its members have.")
        check_calibrations(self.calibration, self._found(), self.name)
        if not isinstance(self.arguments, dict):
            raise ProstateXferError(f"Model card '{self.name}': the arguments must be a JSON object.")
        if self.preprocessing is not None:
            check_fit(self)

    def _found(self) -> set[str]:
        """Names of the structures that a head tells a probability of."""
        values = {value for head in self.heads for value in head.values}
        return {structure.name for structure in self.structures if structure.value in values}

    def _check_heads(self) -> None:
        known = {structure.value for structure in self.structures}
        values = [value for head in self.heads for value in head.values]
        if not values:
            raise ProstateXferError(f"Model card '{self.name}': a segmentation model needs at least one head.")
        if len(values) != len(set(values)) or not set(values) <= known or 0 in values:
            raise ProstateXferError(
                f"Model card '{self.name}': the heads' label values {values} must be distinct, not 0, and among the "
                f"structures {sorted(known)}."
            )
        names = {structure.name for structure in self.structures}
        if len(names) != len(self.structures) or len(known) != len(self.structures):
            raise ProstateXferError(
                f"Model card '{self.name}': two structures have the same name or label value; each must have its own."
            )
        for head in self.heads:
            if head.within is not None and head.within not in names:
                raise ProstateXferError(
                    f"Model card '{self.name}': head '{head.name}' works within '{head.within}', which is no structure."
                )

    def to_json(self) -> str:
        """One JSON object with sorted keys, the form stored in the file header."""
        values = {"card_version": CARD_VERSION, **dataclasses.asdict(self)}
        values["heads"] = [head.to_json() for head in self.heads]
        if not self.calibration:  # the first cards did not have it
            del values["calibration"]
        if self.preprocessing is not None:
            values["preprocessing"] = self.preprocessing.to_json()
        return json.dumps(values, sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "ModelCard":
        """The inverse of `to_json`.

        Raises:
            ProstateXferError: not JSON, a later card version, an unknown or missing field.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ProstateXferError("The model card is not valid JSON: the file is damaged, get it again.") from error
        if not isinstance(values, dict):
            raise ProstateXferError("The model card is not a JSON object: the file is damaged, get it again.")
        version = values.pop("card_version", None)
        if version != CARD_VERSION:
            raise ProstateXferError(
                f"The model card has version {version}, this ProstateXfer reads version {CARD_VERSION}: update "
                "ProstateXfer."
            )
        try:
            return _card_from(values)
        except (TypeError, LookupError, ValueError, AttributeError) as error:
            raise ProstateXferError(
                f"The model card of '{values.get('name', '?')}' is malformed ({error}): get the file again."
            ) from error


def _card_from(values: dict[str, Any]) -> ModelCard:
    values = dict(values)
    preprocessing = values.get("preprocessing")
    if preprocessing is not None:
        values["preprocessing"] = Preprocessing.from_json(preprocessing)
    values["structures"] = tuple(Structure.from_json(item) for item in values.get("structures", ()))
    values["heads"] = tuple(Head(**{**item, "values": tuple(item["values"])}) for item in values.get("heads", ()))
    values["scores"] = tuple(Score(**item) for item in values.get("scores", ()))
    values["calibration"] = tuple(Calibration.from_json(item) for item in values.get("calibration", ()))
    for key in ("inputs", "history"):
        values[key] = tuple(values.get(key, ()))
    if values.get("hu_range") is not None:
        values["hu_range"] = tuple(float(value) for value in values["hu_range"])
    return ModelCard(**values)
