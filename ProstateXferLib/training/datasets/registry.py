# SPDX-License-Identifier: Apache-2.0
"""The layouts of data sets that are understood, and the cases of one.

An adapter is a module in `layouts/` with `find(folder, **options) -> list[Case]`; its docstring shows the tree that it
expects. Only the adapter in hand is imported.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.recipe.schema import Source

ID_PREFIX = "id_prefix"
"""Option of every layout: put before case and patient ids, so that equal ids of two data sets are two people."""

PHANTOMS = "phantoms"
# Kind of an option's default -> what a recipe may give for it, and how to call that; bool first, since it is an int.
_KINDS: dict[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    str: ((str,), "a text"),
    tuple: ((list, tuple), "a list"),
}
_OWN = "that of your data"


@dataclass(frozen=True)
class Layout:
    """One data set's layout.

    Attributes:
        name: what a recipe's source calls it.
        title: one line for a list.
        licence, citation: of the published data; what a checkpoint trained on it has to say.
        cases: how many cases the published data set has, in words.
        where: where to get it.
    """

    name: str
    title: str
    licence: str
    citation: str
    cases: str
    where: str

    @property
    def module(self) -> str:
        """The adapter's module."""
        return f"ProstateXferLib.training.datasets.layouts.{self.name.replace('-', '_')}"

    @property
    def find(self) -> Callable[..., list[Case]]:
        """The adapter itself."""
        return import_module(self.module).find

    @property
    def description(self) -> str:
        """The expected tree and the options, as the adapter's docstring has them."""
        return inspect.cleandoc(import_module(self.module).__doc__ or "")

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options that the adapter takes, without `id_prefix`, which all take."""
        return tuple(list(inspect.signature(self.find).parameters)[1:])


LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout(
            "cases",
            "a folder a case: t2w.nii.gz with gland.nii.gz and lesion.nii.gz, or ct, cbct, mr, ...",
            _OWN,
            "",
            "any",
            "your own images",
        ),
        Layout(
            "csv", "a table: one row a case, one column an image or a structure", _OWN, "", "any", "your own images"
        ),
        Layout("images-only", "any folder of images, without labels", _OWN, "", "any", "your own images"),
        Layout(
            "nnunet",
            "nnU-Net v2: DatasetNNN_Name with imagesTr, labelsTr, dataset.json",
            _OWN,
            "Isensee et al., Nature Methods 18 (2021) 203-211, 10.1038/s41592-020-01008-z",
            "any",
            "converted by you",
        ),
        Layout(
            "msd",
            "Medical Segmentation Decathlon: TaskNN_Name with 4-D images",
            "CC BY-SA 4.0",
            "Antonelli et al., Nature Communications 13 (2022) 4128, 10.1038/s41467-022-30695-9",
            "Task05_Prostate: 32 labelled, 16 without labels; Task07_Pancreas: 281 labelled",
            "http://medicaldecathlon.com",
        ),
        Layout(
            "tcia-prostate-mri-us-biopsy",
            "UCLA Prostate-MRI-US-Biopsy: T2w DICOM, gland and targets as STL surfaces",
            "CC BY 4.0",
            "Natarajan et al., The Cancer Imaging Archive (2020), 10.7937/TCIA.2020.A61IOC1A; "
            "Sonn et al., J Urol 189 (2013) 86-91",
            "1,017 T2w series with a gland surface, 1,311 target surfaces; 1,151 patients in all",
            "https://www.cancerimagingarchive.net/collection/prostate-mri-us-biopsy/",
        ),
        Layout(
            "picai",
            "PI-CAI public training and development set, with the labels of picai_labels",
            "images CC BY-NC 4.0; labels CC BY-NC 4.0",
            "Saha et al., Lancet Oncology 25 (2024) 879-887; images 10.5281/zenodo.6624726",
            "1,500 studies of 1,476 patients; 1,295 with lesions drawn by experts; 425 with csPCa",
            "https://zenodo.org/records/6624726 and https://github.com/DIAGNijmegen/picai_labels",
        ),
        Layout(
            "nci-isbi-2013",
            "NCI-ISBI 2013: Prostate-3T and PROSTATE-DIAGNOSIS, T2w DICOM with zones as NRRD",
            "CC BY 3.0",
            "Bloch et al., The Cancer Imaging Archive (2015), 10.7937/K9/TCIA.2015.zF0vlOPv",
            "60 training, 10 leaderboard and 10 test cases, half of each from either site",
            "https://www.cancerimagingarchive.net/analysis-result/isbi-mr-prostate-2013/",
        ),
        Layout(
            "i2cvb",
            "I2CVB (Dijon): T2w DICOM with prostate, zones and cancer as DICOM masks",
            "see the data set's page",
            "Lemaitre et al., Computers in Biology and Medicine 60 (2015) 8-31, 10.1016/j.compbiomed.2015.02.009",
            "19 patients at 3 T, 21 at 1.5 T",
            "https://i2cvb.github.io",
        ),
        Layout(
            "promise12",
            "PROMISE12: CaseNN.mhd with CaseNN_segmentation.mhd",
            "research use with citation",
            "Litjens et al., Medical Image Analysis 18 (2014) 359-373, 10.1016/j.media.2013.12.002",
            "50 training and 30 test cases",
            "https://zenodo.org/records/8026660",
        ),
        Layout(
            "prostate158",
            "Prostate158 (Charite Berlin): T2w, ADC and DWI with zones and tumours",
            "see the records",
            "Adams et al., Computers in Biology and Medicine 148 (2022) 105817, 10.1016/j.compbiomed.2022.105817",
            "139 for training (119 train, 20 validation) and 19 for testing",
            "https://zenodo.org/records/6481141 and https://zenodo.org/records/6592345",
        ),
        Layout(
            "synthrad2023",
            "SynthRAD2023: MR and CT, or CBCT and CT, of pelvis and brain",
            "CC BY-NC 4.0",
            "Thummerer et al., Medical Physics 50 (2023) 4664-4674, 10.1002/mp.16529",
            "180 pairs for training in each task and region",
            "https://zenodo.org/records/7260705",
        ),
        Layout(
            "synthrad2025",
            "SynthRAD2025: MR and CT, or CBCT and CT, of abdomen, thorax, head and neck (no pelvis)",
            "CC BY-NC 4.0; one centre's cases have terms of their own, see the record",
            "Thummerer et al., Medical Physics 52 (2025) e17981, 10.1002/mp.17981",
            "890 MR-CT and 1,472 CBCT-CT pairs in all, about two thirds of them published for training",
            "https://zenodo.org/records/15373853",
        ),
        Layout(
            "panther",
            "PANTHER: pancreatic tumours on T1w MRI (task 1) and MR-Linac T2w (task 2)",
            "research use; see the record",
            "PANTHER challenge (2025), 10.5281/zenodo.15192302",
            "task 1: 92 labelled and 367 unlabelled; task 2: 50 labelled",
            "https://zenodo.org/records/15192302",
        ),
        Layout(
            "wb-mri",
            "whole-body MRI, stitched: T1w, DWI and ADC with nine bone classes and lesions",
            _OWN,
            "the layout follows SAP: J Bone Oncology 57 (2026) 100745",
            "your own (SAP: 72 scans of 24 volunteers, 40 patients; private)",
            "your own images",
        ),
        Layout(PHANTOMS, "synthetic pelvises with known truth, drawn when they are needed", "none", "", "any", "made"),
    )
}


def layout_of(name: str) -> Layout:
    """The layout of that name.

    Raises:
        ProstateXferError: there is none; the sentence lists them.
    """
    if name not in LAYOUTS:
        raise ProstateXferError(f"The data layout '{name}' is none of {', '.join(LAYOUTS)}.")
    return LAYOUTS[name]


def find_cases(source: Source, data_root: Path) -> list[Case]:
    """The cases of a recipe's source, sorted by case id; no voxels are read.

    Raises:
        ProstateXferError: unknown layout or option, a folder that is not there or not what the layout expects, or two
            cases of one id.
    """
    layout = layout_of(source.layout)
    options = dict(source.options)
    prefix = str(options.pop(ID_PREFIX, ""))
    _check_options(layout, options)
    folder = Path(data_root) / source.path
    if layout.name != PHANTOMS and not folder.is_dir():
        raise ProstateXferError(f"There is no data folder '{folder}': give the right one with --data or in the recipe.")
    cases = sorted(layout.find(folder, **options), key=lambda case: case.case_id)
    twice = [one.case_id for one, two in pairwise(cases) if one.case_id == two.case_id]
    if twice:
        raise ProstateXferError(f"'{folder}' holds two cases with the id '{twice[0]}': rename or remove one of them.")
    if prefix:
        cases = [
            dataclasses.replace(case, case_id=prefix + case.case_id, patient_id=prefix + case.patient_id)
            for case in cases
        ]
    return cases


def _check_options(layout: Layout, options: Mapping[str, Any]) -> None:
    """Raise for an option that the adapter does not take, or of another kind than its default."""
    for name, value in options.items():
        if name not in layout.options:
            raise ProstateXferError(
                f"The layout '{layout.name}' has no option '{name}'; it takes "
                f"{', '.join((*layout.options, ID_PREFIX))}."
            )
        default = inspect.signature(layout.find).parameters[name].default
        kind = next((kind for kind in _KINDS if isinstance(default, kind)), None)
        if kind is not None and not (isinstance(value, _KINDS[kind][0]) and isinstance(value, bool) == (kind is bool)):
            raise ProstateXferError(
                f"The option '{name}' of the layout '{layout.name}' is {_KINDS[kind][1]}, not {value!r}."
            )
