# SPDX-License-Identifier: Apache-2.0
"""ProstateXfer: prostate and lesion segmentation on MRI and synthetic CT, by transfer of large pretrained encoders.

>>> import ProstateXferLib as px
>>> study = px.make_phantom(seed=0).render()

Importing the package loads no third-party module; each name below brings in what it needs when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.version import __version__

if TYPE_CHECKING:
    from ProstateXferLib import metrics, networks
    from ProstateXferLib.checkpoints.importers import import_checkpoint
    from ProstateXferLib.checkpoints.loading import load_checkpoint
    from ProstateXferLib.cohort.options import StudyInputs, StudyOptions
    from ProstateXferLib.cohort.study import run_study
    from ProstateXferLib.images.io import read_image, write_image
    from ProstateXferLib.images.phantom import make_phantom
    from ProstateXferLib.metrics.measure import measure
    from ProstateXferLib.pipelines.ensemble import make_ensemble
    from ProstateXferLib.pipelines.segmenter import Segmenter
    from ProstateXferLib.pipelines.synthesizer import Synthesizer

__all__ = [
    "ProstateXferError",
    "Segmenter",
    "StudyInputs",
    "StudyOptions",
    "Synthesizer",
    "__version__",
    "import_checkpoint",
    "load_checkpoint",
    "make_ensemble",
    "make_phantom",
    "measure",
    "metrics",
    "networks",
    "read_image",
    "run_study",
    "write_image",
]

# Public name -> the module that defines it (PEP 562).
_DEFINED_IN = {
    "Segmenter": "ProstateXferLib.pipelines.segmenter",
    "StudyInputs": "ProstateXferLib.cohort.options",
    "StudyOptions": "ProstateXferLib.cohort.options",
    "Synthesizer": "ProstateXferLib.pipelines.synthesizer",
    "import_checkpoint": "ProstateXferLib.checkpoints.importers",
    "load_checkpoint": "ProstateXferLib.checkpoints.loading",
    "make_ensemble": "ProstateXferLib.pipelines.ensemble",
    "make_phantom": "ProstateXferLib.images.phantom",
    "measure": "ProstateXferLib.metrics.measure",
    "read_image": "ProstateXferLib.images.io",
    "run_study": "ProstateXferLib.cohort.study",
    "write_image": "ProstateXferLib.images.io",
}
_SUBPACKAGES = ("metrics", "networks")


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return import_module(f"{__name__}.{name}")
    if name in _DEFINED_IN:
        value = getattr(import_module(_DEFINED_IN[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
