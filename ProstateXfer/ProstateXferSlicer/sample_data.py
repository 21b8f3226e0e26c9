# SPDX-License-Identifier: Apache-2.0
"""A digital pelvis with known truth in the Sample Data module: made on this computer, nothing is downloaded."""

import hashlib
import logging
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import slicer
from slicer.i18n import tr as _

from ProstateXferLib.errors import ProstateXferError
from ProstateXferSlicer.temporary import temporaryPath

CATEGORY = "ProstateXfer"
SEED = 7  # a phantom that no shipped model was trained on
NODE_NAMES = {"t2w": "Phantom T2w", "cbct": "Phantom CBCT", "ct": "Phantom CT", "segmentation": "Phantom truth"}
SOURCES = {
    "Prostate phantom (T2w, CBCT, CT)": ("t2w", "cbct", "ct"),
    "Prostate phantom (T2w)": ("t2w",),
}
THUMBNAIL = "ProstateXferPhantom.png"

# SHA-256 of the voxels as they lie in the array (z, y, x), little-endian. The images go through exp, cos and a matrix
# product, which another processor rounds otherwise now and then; the label map does not.
CHECKSUMS = {
    "t2w": "d1583a6b236837782b618448c8486f582dacabeb69cf19b02211c4b265ed1da2",
    "cbct": "377f4931d9291b5d32d49ed473fb046a63dea8cc1e66db3b5e757bf6fad8b110",
    "ct": "8dfff040acb3ee535738d08d43e534d6dbef9d1b245df73075fc64f5becf5b05",
    "labels": "6f7c553b91d3674b0057690a4b1a5b3db72ae178060f8e80fb3d4e9659cf387e",
}


def registerSampleData(iconsFolder: Path) -> None:
    """Offer the phantom in the module Sample Data; to be called once Slicer has started up."""
    import SampleData

    for name, modalities in SOURCES.items():
        # Empty lists, not None: SampleDataSource takes their length, and there is nothing to download.
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=name,
            uris=[],
            fileNames=[],
            nodeNames=[],
            thumbnailFileName=str(Path(iconsFolder) / THUMBNAIL),
            customDownloader=_loader(modalities),
        )


def loadPhantom(*, modalities: Sequence[str] = ("t2w", "cbct", "ct"), grid: Any = None, show: bool = True) -> dict:
    """Make the phantom and add it to the scene: nodes by "t2w", "cbct", "ct" (those asked for) and "segmentation".

    The T2w and the truth (prostate and DIL) lie on the grid of a T2w acquisition, CBCT and CT on that of a planning CT;
    with `grid` (a `ProstateXferLib.images.grid.Grid`, say a coarse one for a test) all lie on that one, and the voxels
    are not compared with the checksums on record. `show` puts the first image into the slice views.

    Raises:
        ProstateXferError: a modality is unknown, or the anatomy is not the one on record; the scene is as it was.
    """
    from ProstateXferSlicer.scene.transaction import nodesOrNothing
    from ProstateXferSlicer.scene.volumes import volumeOfImage

    modalities = tuple(modalities)
    if unknown := [name for name in modalities if name not in SOURCES["Prostate phantom (T2w, CBCT, CT)"]]:
        raise ProstateXferError(
            _("The phantom has no modality {name}: use t2w, cbct, ct.").format(name=repr(unknown[0]))
        )
    if not modalities:
        raise ProstateXferError(_("No modality of the phantom was asked for: use t2w, cbct, ct."))
    slicer.util.showStatusMessage(_("Making the phantom…"))
    images, labels = _render(modalities, grid)
    if grid is None:
        checkVoxels({**images, "labels": labels})
    with nodesOrNothing():
        nodes = {name: volumeOfImage(images[name], _uniqueName(NODE_NAMES[name])) for name in modalities}
        first = nodes[modalities[0]]
        nodes["segmentation"] = _segmentationNode(labels, first)
        _arrange(nodes, first)
    if show:
        slicer.util.setSliceViewerLayers(background=first, foreground=None, label=None, fit=True)
    slicer.util.showStatusMessage(_("The phantom is loaded."), 3000)
    return nodes


def checkVoxels(images: dict[str, sitk.Image]) -> None:
    """Compare voxels with the checksums on record; `images` by "t2w", "cbct", "ct" and "labels".

    Raises:
        ProstateXferError: the label map differs, so that this is another patient than the one on record.
    """
    differing = [name for name, image in images.items() if voxelChecksum(image) != CHECKSUMS[name]]
    if "labels" in differing:
        raise ProstateXferError(
            _("The phantom made here is not the one on record (seed {seed}): please report it, with the output of the "
              "module's doctor.").format(seed=SEED)
        )  # fmt: skip
    if differing:
        logging.getLogger(__name__).warning(
            "The phantom's %s differ from those on record by rounding (another processor or NumPy); its anatomy is "
            "the same.",
            ", ".join(differing),
        )


def voxelChecksum(image: sitk.Image) -> str:
    """SHA-256 (hex) of the voxels, the same on every byte order."""
    voxels = sitk.GetArrayFromImage(image)
    return hashlib.sha256(np.ascontiguousarray(voxels, voxels.dtype.newbyteorder("<")).tobytes()).hexdigest()


def _loader(modalities: Sequence[str]) -> Callable[[Any], list]:
    """What the Sample Data module calls with the source when its button is clicked; it ignores what comes back."""

    def load(source: Any) -> list:
        with slicer.util.tryWithErrorDisplay(_("The phantom could not be made."), waitCursor=True):
            return list(loadPhantom(modalities=modalities).values())

    return load


def _render(modalities: Sequence[str], grid: Any) -> tuple[dict[str, sitk.Image], sitk.Image]:
    from ProstateXferLib.images.phantom import default_ct_grid, make_phantom

    phantom = make_phantom(SEED)
    diagnostic = phantom.render(grid, modalities=[name for name in modalities if name == "t2w"])
    images = {"t2w": diagnostic.t2w}
    if planned := [name for name in modalities if name != "t2w"]:
        planning = phantom.render(grid or default_ct_grid(), modalities=planned)
        images |= {"cbct": planning.cbct, "ct": planning.ct}
    return {name: images[name] for name in modalities}, diagnostic.labels


def _segmentationNode(labels: sitk.Image, reference: Any) -> Any:
    from ProstateXferLib.images.segmentation_file import write_segmentation
    from ProstateXferLib.images.structures import DIL, PROSTATE
    from ProstateXferSlicer.scene.segmentations import loadSegmentation

    with tempfile.TemporaryDirectory(prefix="ProstateXfer-", dir=temporaryPath()) as folder:
        path = write_segmentation(labels, (PROSTATE, DIL), Path(folder) / "truth.seg.nrrd")
        return loadSegmentation(path, _uniqueName(NODE_NAMES["segmentation"]), reference)


def _arrange(nodes: dict[str, Any], first: Any) -> None:
    """CT numbers in a CT window; everything beside the first image."""
    from ProstateXferSlicer.scene.display import showCtWindow
    from ProstateXferSlicer.scene.subject_hierarchy import placeBeside

    for name, node in nodes.items():
        if name in ("cbct", "ct"):
            showCtWindow(node, "soft tissue")
        if node is not first:
            placeBeside(node, first)


def _uniqueName(name: str) -> str:
    return slicer.mrmlScene.GenerateUniqueName(name) if slicer.mrmlScene.GetFirstNodeByName(name) else name
