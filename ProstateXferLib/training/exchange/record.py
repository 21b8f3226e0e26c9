# SPDX-License-Identifier: Apache-2.0
"""What a package says about its weights: the content of exchange.json."""

import dataclasses
import json
import platform
from dataclasses import dataclass, field
from typing import Any

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.version import __version__

FORMAT = "prostatexfer-weights-1"


def versions() -> dict[str, str]:
    """Of what trained and packed the weights."""
    import torch

    # Without PyTorch's "+cpu" or "+cu130": which build it was says more about the site than about the weights.
    return {
        "prostatexfer": __version__,
        "torch": torch.__version__.partition("+")[0],
        "python": platform.python_version(),
    }


@dataclass(frozen=True)
class ExchangeRecord:
    """Facts about the weights of one package; all but the last four are read off the model's card.

    Attributes:
        model: the card's name.
        task, architecture, arguments: what is to be built.
        preprocessing: the card's, the mean and standard deviation of the training set among it.
        scores: the card's results on cases never seen in training.
        history: what led here, oldest first: imports, stages, exports.
        site: `signature.site_id` of the centre that packed it.
        patients: how many patients that centre trained on.
        model_sha256: of model.safetensors.
        versions: of the programs that packed it.
    """

    model: str
    task: str
    architecture: str
    arguments: dict[str, Any]
    preprocessing: dict[str, Any] | None
    scores: list[dict[str, Any]]
    history: list[dict[str, Any]]
    site: str
    patients: int
    model_sha256: str
    versions: dict[str, str] = field(default_factory=versions)

    def to_json(self) -> bytes:
        """The one way to write it: sorted keys, UTF-8, a line for each value so that a person can read it."""
        values = {"format": FORMAT, **dataclasses.asdict(self)}
        return (json.dumps(values, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes) -> "ExchangeRecord":
        """The inverse of `to_json`; anything that it would not write is refused.

        Raises:
            ProstateXferError: not such a record, or of another version of the format.
        """
        try:
            values = json.loads(data)
            version = values.pop("format", None)
            if version != FORMAT:
                raise ProstateXferError(f"The record's format is {version!r}, not '{FORMAT}': update ProstateXfer.")
            record = cls(**values)
            same = record.to_json() == data
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ProstateXferError(f"The package's record is malformed ({error}): get the package again.") from error
        if not same or not isinstance(record.patients, int) or isinstance(record.patients, bool):
            raise ProstateXferError("The package's record is not written as ProstateXfer writes it: get it again.")
        return record


def record_of(card: ModelCard, *, site: str, patients: int, model_sha256: str) -> ExchangeRecord:
    """The record of a model with this card."""
    return ExchangeRecord(**facts_of(card), site=site, patients=patients, model_sha256=model_sha256)


def facts_of(card: ModelCard) -> dict[str, Any]:
    """What a record must say about a model with this card."""
    values = json.loads(card.to_json())  # lists for tuples, as JSON gives them back
    names = ("task", "architecture", "arguments", "preprocessing", "scores", "history")
    return {"model": card.name, **{name: values[name] for name in names}}
