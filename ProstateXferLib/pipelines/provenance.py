# SPDX-License-Identifier: Apache-2.0
"""What must be known to repeat a result: models, versions, options, input, device, warnings."""

import hashlib
import math
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import SimpleITK as sitk

from ProstateXferLib.version import __version__

_PACKAGES = ("torch", "numpy", "SimpleITK", "scipy", "safetensors")


@dataclass(frozen=True)
class Provenance:
    """A record of one run; goes into JSON beside the outputs.

    Attributes:
        models: name and sha256 of every checkpoint.
        options: device, precision and whatever else the pipeline was told, as it was resolved.
        input_sha256: sequence name -> hash over voxels and geometry of the image.
        versions: ProstateXfer, Python and the packages that compute.
        started_utc, seconds: when, and for how long.
        warnings: fallbacks that were taken.
    """

    models: tuple[dict[str, str], ...]
    options: dict[str, Any]
    input_sha256: dict[str, str]
    versions: dict[str, str]
    started_utc: str
    seconds: float
    warnings: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def image_sha256(image: sitk.Image) -> str:
    """Hash over pixel type, size, spacing, origin, direction and voxels: equal images, equal hash, whatever the file.

    Geometry counts to 1e-4 mm (spacing), 0.01 mm (origin) and 1e-4 (direction): NIfTI keeps it as float32 alone.
    """
    geometry = (
        image.GetPixelIDTypeAsString(),
        image.GetSize(),
        _steps(image.GetSpacing(), 1e-4),
        _steps(image.GetOrigin(), 1e-2),
        _steps(image.GetDirection(), 1e-4),
    )
    digest = hashlib.sha256(repr(geometry).encode())
    digest.update(sitk.GetArrayViewFromImage(image).tobytes())
    return digest.hexdigest()


def _steps(values: Sequence[float], step: float) -> tuple[int, ...]:
    """Whole steps in each value; the odd offset keeps round decimals, which headers are full of, off the boundaries."""
    return tuple(math.floor(value / step + 0.3819) for value in values)


def library_versions() -> dict[str, str]:
    """Versions of this library, Python, and the packages that compute."""
    versions = {"prostatexfer": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # Slicer bundles some without metadata
            versions[package] = "unknown"
    if "torch" in sys.modules:  # its own word names the build, too (+cpu, +cu130), which the metadata may not
        versions["torch"] = str(sys.modules["torch"].__version__)
    return versions


def now_utc() -> str:
    """Current time, ISO 8601, seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class WarningLog:
    """Progress that passes everything on and remembers the warnings for the provenance."""

    def __init__(self, inner) -> None:
        self._inner, self.warnings = inner, []

    def update(self, step: str, fraction: float, message: str = "") -> None:
        """Pass on."""
        self._inner.update(step, fraction, message)

    def warn(self, message: str) -> None:
        """Remember and pass on."""
        self.warnings.append(message)
        self._inner.warn(message)

    def cancelled(self) -> bool:
        """Ask the watcher."""
        return self._inner.cancelled()
