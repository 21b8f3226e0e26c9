# SPDX-License-Identifier: Apache-2.0
"""What a label value means: name, colour, SNOMED CT codes, and the structure it is part of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from ProstateXferLib.errors import ProstateXferError

# The names 3D Slicer gives its two bundled lists; they say where its terminology selector should look first.
_TYPE_CONTEXT = "Segmentation category and type - DICOM master list"
_REGION_CONTEXT = "Anatomic codes - DICOM master list"


@dataclass(frozen=True)
class Code:
    """A coded concept, e.g. `Code("SCT", "41216001", "Prostate")`."""

    scheme: str
    value: str
    meaning: str

    def __post_init__(self) -> None:
        """Refuse what would break Slicer's terminology string apart."""
        text = f"{self.scheme}{self.value}{self.meaning}"
        if not (self.scheme and self.value and self.meaning) or any(sign in text for sign in "~^|"):
            raise ProstateXferError(
                f"The code {self.scheme!r}, {self.value!r}, {self.meaning!r} needs three parts without ~, ^ or |."
            )

    @property
    def triple(self) -> str:
        """The code as Slicer writes it, e.g. `SCT^41216001^Prostate`."""
        return f"{self.scheme}^{self.value}^{self.meaning}"

    @classmethod
    def from_triple(cls, text: str) -> Code | None:
        """The code of a `scheme^value^meaning` text; None where Slicer left it empty (`^^`)."""
        parts = text.split("^")
        return cls(*parts) if len(parts) == 3 and all(parts) else None


@dataclass(frozen=True)
class Structure:
    """One label of a segmentation.

    `part_of` names the structure that contains this one: voxels labelled DIL also belong to the prostate, although a
    label map can hold only one value per voxel.
    """

    value: int
    name: str
    segment_id: str
    color_rgb: tuple[int, int, int]
    category: Code
    type: Code
    region: Code | None = None
    part_of: str | None = None
    modifier: Code | None = None  # laterality of the type

    def __post_init__(self) -> None:
        """Check what a model card or file from elsewhere may have wrong."""
        object.__setattr__(self, "color_rgb", tuple(int(c) for c in self.color_rgb))
        if self.value < 1:
            raise ProstateXferError(f"Structure '{self.name}' has label value {self.value}; values start at 1.")
        if not self.name or not self.segment_id:
            raise ProstateXferError(f"The structure with label value {self.value} needs a name and a segment id.")
        if len(self.color_rgb) != 3 or not all(0 <= c <= 255 for c in self.color_rgb):
            raise ProstateXferError(
                f"The colour of '{self.name}' is {self.color_rgb}; give red, green and blue from 0 to 255."
            )

    def with_value(self, value: int) -> Structure:
        """The same structure under another label value."""
        return replace(self, value=value)

    @property
    def terminology(self) -> str:
        """The text of Slicer's `TerminologyEntry` tag; a codeless part is written `^^`."""
        triples = [code.triple if code else "^^" for code in (self.category, self.type, self.modifier, self.region)]
        return "~".join([_TYPE_CONTEXT, *triples[:3], _REGION_CONTEXT, triples[3], "^^"])

    def to_json(self) -> dict[str, Any]:
        """Plain values for a model card; `from_json` reads them back."""
        fields = asdict(self) | {"color_rgb": list(self.color_rgb)}
        return {name: value for name, value in fields.items() if value is not None}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Structure:
        """The structure of a model card's entry."""
        try:
            codes = {
                name: Code(**fields[name])
                for name in ("category", "type", "region", "modifier")
                if fields.get(name) is not None
            }
            return cls(**{**fields, **codes})
        except (TypeError, ValueError) as error:
            raise ProstateXferError(
                f"The description of structure {fields.get('name', '?')!r} is incomplete or has an unknown entry "
                f"({error}); correct the model card."
            ) from error


_ANATOMY = Code("SCT", "123037004", "Anatomical Structure")
_ALTERED = Code("SCT", "49755003", "Morphologically Altered Structure")
_TISSUE = Code("SCT", "85756007", "Tissue")
_PROSTATE = Code("SCT", "41216001", "Prostate")
_FEMORAL_HEAD = Code("SCT", "2812003", "Head of femur")
_LEFT = Code("SCT", "7771000", "Left")
_RIGHT = Code("SCT", "24028007", "Right")

# Colours of organs are those Slicer's lists recommend for the code, where they give one.
PROSTATE = Structure(1, "Prostate", "Prostate", (230, 158, 140), _ANATOMY, _PROSTATE)
# "Mass" and not "Neoplasm": an image shows a mass, only the pathologist can call it a neoplasm.
DIL = Structure(
    2, "DIL", "DIL", (255, 221, 51), _ALTERED, Code("SCT", "4147007", "Mass"), region=_PROSTATE, part_of="Prostate"
)
PERIPHERAL_ZONE = Structure(
    3,
    "Peripheral zone",
    "PeripheralZone",
    (111, 184, 210),
    _ANATOMY,
    Code("SCT", "279706003", "Peripheral zone of the prostate"),
    part_of="Prostate",
)
TRANSITION_ZONE = Structure(
    4,
    "Transition zone",
    "TransitionZone",
    (183, 156, 220),
    _ANATOMY,
    Code("SCT", "399384005", "Transition zone of the prostate"),
    part_of="Prostate",
)
BLADDER = Structure(5, "Bladder", "Bladder", (222, 154, 132), _ANATOMY, Code("SCT", "89837001", "Bladder"))
RECTUM = Structure(6, "Rectum", "Rectum", (181, 117, 76), _ANATOMY, Code("SCT", "34402009", "Rectum"))
FEMORAL_HEAD_LEFT = Structure(
    7, "Left femoral head", "FemoralHeadLeft", (255, 238, 170), _ANATOMY, _FEMORAL_HEAD, modifier=_LEFT
)
FEMORAL_HEAD_RIGHT = Structure(
    8, "Right femoral head", "FemoralHeadRight", (226, 202, 134), _ANATOMY, _FEMORAL_HEAD, modifier=_RIGHT
)
SEMINAL_VESICLE = Structure(
    9, "Seminal vesicle", "SeminalVesicle", (245, 172, 147), _ANATOMY, Code("SCT", "64739004", "Seminal Vesicle")
)
URETHRA = Structure(10, "Urethra", "Urethra", (124, 186, 223), _ANATOMY, Code("SCT", "13648007", "Urethra"))
BONE = Structure(11, "Bone", "Bone", (241, 214, 145), _TISSUE, Code("SCT", "272673000", "Bone"))
BODY = Structure(12, "Body", "Body", (177, 122, 101), _ANATOMY, Code("SCT", "38266002", "Entire body"))

STRUCTURES = (
    PROSTATE,
    DIL,
    PERIPHERAL_ZONE,
    TRANSITION_ZONE,
    BLADDER,
    RECTUM,
    FEMORAL_HEAD_LEFT,
    FEMORAL_HEAD_RIGHT,
    SEMINAL_VESICLE,
    URETHRA,
    BONE,
    BODY,
)

# How label names are spelled in data sets people bring along, after `_key`.
_ALIASES = {
    "gland": PROSTATE,
    "prostategland": PROSTATE,
    "wholegland": PROSTATE,
    "lesion": DIL,
    "prostatelesion": DIL,
    "tumor": DIL,
    "dominantintraprostaticlesion": DIL,
    "pz": PERIPHERAL_ZONE,
    "tz": TRANSITION_ZONE,
    "urinarybladder": BLADDER,
    "femoralheadl": FEMORAL_HEAD_LEFT,
    "femoralheadr": FEMORAL_HEAD_RIGHT,
    "femurheadleft": FEMORAL_HEAD_LEFT,
    "femurheadright": FEMORAL_HEAD_RIGHT,
    "seminalvesicles": SEMINAL_VESICLE,
    "bones": BONE,
}
_GENERIC_COLORS = ((128, 174, 128), (216, 101, 79), (0, 151, 206), (244, 214, 49), (144, 96, 190), (80, 190, 170))


def _key(name: str) -> str:
    """The letters and digits of a name in lower case."""
    return "".join(sign for sign in name.lower() if sign.isalnum())


def structure_by_name(name: str) -> Structure:
    """The known structure of that name; case, spaces and underscores do not matter ("transition_zone", "PZ")."""
    known = _ALIASES | {_key(text): s for s in STRUCTURES for text in (s.name, s.segment_id)}
    if _key(name) not in known:
        raise ProstateXferError(
            f"Structure '{name}' is unknown; use one of {', '.join(s.name for s in STRUCTURES)}, "
            "or describe it in the model card."
        )
    return known[_key(name)]


def generic_structure(value: int, name: str | None = None) -> Structure:
    """A structure for a label nothing is known about but its value, and perhaps its name: coded as tissue."""
    color_rgb = _GENERIC_COLORS[(value - 1) % len(_GENERIC_COLORS)]
    return Structure(value, name or f"Label {value}", f"Label_{value}", color_rgb, _TISSUE, _TISSUE)
