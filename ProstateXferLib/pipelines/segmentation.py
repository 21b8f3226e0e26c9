# SPDX-License-Identifier: Apache-2.0
"""What a `Segmenter` gives back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import SimpleITK as sitk

from ProstateXferLib.images.segmentation_file import write_segmentation
from ProstateXferLib.images.structures import Structure
from ProstateXferLib.pipelines.provenance import Provenance
from ProstateXferLib.pipelines.sample import Sample


@dataclass(frozen=True)
class Segmentation:
    """Labels on the input's own grid.

    Attributes:
        labels: uint8 image; a DIL inside the prostate carries the DIL's value, although it is part of both.
        structures: what the label values mean.
        probabilities: structure name -> float32 image in 0..1 on the same grid.
        provenance: models, versions, options, input hash, warnings.
        samples: what single voices say alone, where the Segmenter was asked to keep it (docs/ensembles.md).
        sampled_by: what they are: "members", "folds" or "mirrorings"; empty without samples.
    """

    labels: sitk.Image
    structures: tuple[Structure, ...]
    probabilities: Mapping[str, sitk.Image] = field(default_factory=dict)
    provenance: Provenance | None = None
    samples: tuple[Sample, ...] = ()
    sampled_by: str = ""

    @property
    def names(self) -> dict[int, str]:
        """Structure name by label value."""
        return {structure.value: structure.name for structure in self.structures}

    def write(self, path: str | Path) -> Path:
        """Write a `.seg.nrrd` that Slicer opens with names, colours and terminology."""
        return write_segmentation(self.labels, self.structures, Path(path))
