# SPDX-License-Identifier: Apache-2.0
"""The samples of a study in one file, which 3D Slicer opens with a segment for each sample and structure."""

from collections.abc import Sequence
from pathlib import Path

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.segmentation_file import read_segmentations, write_segmentations
from ProstateXferLib.pipelines.sample import Sample


def write_samples(samples: Sequence[Sample], path: Path) -> Path:
    """Write what each sample found as `.seg.nrrd`; their names must differ. Returns the path."""
    maps = {_one_line(sample.name): (sample.labels, sample.structures) for sample in samples}
    if len(maps) != len(samples):
        raise ProstateXferError("Two samples of the segmentation have one name: give each its own.")
    return write_segmentations(maps, path)


def read_samples(path: Path) -> tuple[Sample, ...]:
    """The samples of a file of `write_samples`, each with its structures.

    Raises:
        ProstateXferError: the file cannot be read or holds no samples.
    """
    return tuple(Sample(name, labels, structures) for name, (labels, structures) in read_segmentations(path).items())


def _one_line(name: str) -> str:
    """The name without the signs that end an entry in the file; models may be called as one likes."""
    return " ".join(name.replace("|", "/").split())
