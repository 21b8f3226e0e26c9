# SPDX-License-Identifier: Apache-2.0
"""Which packages the library uses, which part of it needs them, and how to get one that is missing."""

import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec


@dataclass(frozen=True)
class Package:
    """A distribution, the name it is imported by, and what it is needed for ("" = everything)."""

    distribution: str
    module: str
    needed_for: str = ""

    def installed_version(self) -> str | None:
        """The version, read from the metadata without importing the package; None where it is not installed."""
        try:
            return version(self.distribution)
        except PackageNotFoundError:
            # An application may bring a package without its metadata, as Slicer has done with SimpleITK.
            return "version unknown" if find_spec(self.module) else None

    def advice(self) -> str:
        """One sentence for the user who lacks it."""
        purpose = f", which {self.needed_for} needs," if self.needed_for else ""
        return (
            f'{self.distribution}{purpose} is not installed: run "{sys.executable}" -m pip install {self.distribution}'
        )


REQUIRED = (
    Package("numpy", "numpy"),
    Package("scipy", "scipy"),
    Package("SimpleITK", "SimpleITK"),
    Package("torch", "torch"),
    Package("safetensors", "safetensors"),
)
OPTIONAL = (
    Package("matplotlib", "matplotlib", "drawing figures"),
    Package("monai", "monai", "training"),
    Package("PyYAML", "yaml", "reading training recipes"),
    Package("lightning-fabric", "lightning_fabric", "training"),
    Package("tensorboard", "tensorboard", "training logs"),
    Package("segmentation-models-pytorch", "segmentation_models_pytorch", "training UNet++ and its kin"),
    Package("pydicom", "pydicom", "DICOM export"),
    Package("highdicom", "highdicom", "DICOM export"),
    Package("submitit", "submitit", "training on SLURM"),
    Package("flwr", "flwr", "federated averaging"),
    Package("ray", "ray", "running a batch on Ray"),
    Package("nnunetv2", "nnunetv2", "running nnU-Net's own trainers"),
)


def advice_for_missing(module: str | None) -> str | None:
    """What to do when importing `module` failed; None for a module that is not one of the packages above."""
    root = (module or "").partition(".")[0]
    return next((package.advice() for package in REQUIRED + OPTIONAL if package.module == root), None)
