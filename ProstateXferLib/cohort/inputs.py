# SPDX-License-Identifier: Apache-2.0
"""The files that make up a study."""

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class StudyInputs:
    """Image files (or DICOM folders) of one patient in one examination; what there is not is None.

    Attributes:
        t2w: T2-weighted MR; the grid of the segmentation.
        adc, high_b: diffusion maps, for models that take them.
        cbct: cone-beam CT.
        reference_ct: a true CT in HU to compare synthetic CTs with.
        reference_segmentation: a segmentation to compare with; without names 1 is Prostate and 2 is DIL.
    """

    t2w: Path | None = None
    adc: Path | None = None
    high_b: Path | None = None
    cbct: Path | None = None
    reference_ct: Path | None = None
    reference_segmentation: Path | None = None

    def __post_init__(self) -> None:
        for name, path in self.given().items():
            object.__setattr__(self, name, Path(path))

    def given(self) -> dict[str, Path]:
        """The inputs that there are, by field name."""
        values = {name: getattr(self, name) for name in INPUT_NAMES}
        return {name: path for name, path in values.items() if path is not None}

    def absolute(self) -> "StudyInputs":
        """The same files by paths that hold wherever a later program starts."""
        return StudyInputs(**{name: path.expanduser().absolute() for name, path in self.given().items()})

    def to_arguments(self) -> list[str]:
        """The words of the command line that mean these inputs; `from_arguments` is the inverse."""
        return [f"--{name.replace('_', '-')}={path}" for name, path in self.given().items()]

    @classmethod
    def from_arguments(cls, namespace: Any) -> "StudyInputs":
        """The inputs of a parsed command line."""
        return cls(**{name: getattr(namespace, name) for name in INPUT_NAMES})


INPUT_NAMES = tuple(field.name for field in fields(StudyInputs))
INPUT_TITLES = {
    "t2w": "T2w image",
    "adc": "ADC map",
    "high_b": "high-b image",
    "cbct": "CBCT",
    "reference_ct": "reference CT",
    "reference_segmentation": "reference segmentation",
}
SEQUENCE_OF = {"t2w": "T2w", "adc": "ADC", "high_b": "high-b", "cbct": "CBCT"}
"""What a model card calls the inputs that a network can see."""
# T2* is another sequence, and coronal or sagittal T2w images are others than the axial one: none of them stands here.
_SPELLINGS = {
    "t2w": ("t2", "t2w", "t2wi", "t2weighted", "mrt2", "t2mr", "t2mri", "axt2", "t2ax", "t2axial", "axialt2", "t2tra"),
    "adc": ("adc", "adcmap", "mradc", "adcmr", "dwiadc", "axadc", "adcaxial"),
    "high_b": ("highb", "hbv", "highbvalue", "highbdwi", "dwihighb", "dwi", "mrdwi", "axdwi"),
    "cbct": ("cbct", "conebeamct"),
}
_FIELDS = {spelling: name for name, spellings in _SPELLINGS.items() for spelling in spellings}
_B_VALUE = re.compile(r"(?:dwi)?b(\d{3,4})")
# s/mm²; PI-RADS v2.1 (2019), section "DWI": a high b-value image has at least 1400.
_HIGH_B_FROM = 1400


def input_of_sequence(sequence: str) -> str | None:
    """The field that holds a sequence of a model card ("T2w" -> "t2w", "HBV" -> "high_b"); None for any other.

    The channel names of nnU-Net's dataset.json are free text, and often say how a channel is normalised ("noNorm",
    "zscore", "CT") and not what it is: only what is known for one image of a prostate examination is taken for it.
    """
    plain = "".join(sign for sign in sequence.lower() if sign.isalnum() or sign == "*")
    if match := _B_VALUE.fullmatch(plain):
        return "high_b" if int(match[1]) >= _HIGH_B_FROM else None
    return _FIELDS.get(plain)
