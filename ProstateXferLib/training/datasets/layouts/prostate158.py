# SPDX-License-Identifier: Apache-2.0
"""Prostate158: biparametric MRI of the Charite at 3 T, with zones and tumours of one or two readers.

    FOLDER/                                prostate158_train or prostate158_test, or the folder that holds both
      train/020/ or test/001/              one folder a patient
        t2.nii.gz, adc.nii.gz, dwi.nii.gz
        t2_anatomy_reader1.nii.gz          1 central gland (Transition zone), 2 peripheral zone
        adc_tumor_reader1.nii.gz           only where a tumour was drawn
        t2_tumor_reader1.nii.gz, ..._reader2.nii.gz, empty.nii.gz
      train.csv, valid.csv, test.csv       column ID: which cases the authors trained and validated on

All images of a case lie on one grid. Structures: Prostate (both values together), Transition zone, Peripheral zone,
DIL; a case without a tumour file was read and has none. (PI-CAI's zones are numbered the other way round.)

Options: reader (1): or 2 (test cases have both). tumour ("adc"): the drawing on the "adc" or the "t2" image. part (""):
"train", "valid" or "test" alone. sequences (["T2w", "ADC", "DWI"]). Attributes: part, positive.
"""

from collections.abc import Sequence
from pathlib import Path

from ProstateXferLib.training.datasets.case import Case, Mask
from ProstateXferLib.training.datasets.folder_tree import chosen, files_below, require_cases
from ProstateXferLib.training.datasets.label_names import label_masks
from ProstateXferLib.training.datasets.tables import read_rows

LAYOUT = "prostate158"
_FILES = {"T2w": "t2", "ADC": "adc", "DWI": "dwi"}
_ANATOMY = {"Prostate": (1, 2), "Transition zone": (1,), "Peripheral zone": (2,)}


def find(
    folder: Path,
    reader: int = 1,
    tumour: str = "adc",
    part: str = "",
    sequences: Sequence[str] = ("T2w", "ADC", "DWI"),
) -> list[Case]:
    """Every patient's folder with the sequences asked for.

    Raises:
        ProstateXferError: there is none, or an option has a value that it cannot have.
    """
    chosen(str(reader), ("1", "2"), option="reader", layout=LAYOUT)
    chosen(tumour, ("adc", "t2"), option="tumour", layout=LAYOUT)
    chosen(part, ("", "train", "valid", "test"), option="part", layout=LAYOUT)
    for name in sequences:
        chosen(name, _FILES, option="sequences", layout=LAYOUT)
    files = files_below(folder)
    valid = _validation_cases(files)
    cases = []
    for place in (path.parent for path in files if path.name == "t2.nii.gz"):
        own_part = "valid" if place in valid else place.parent.name
        images = {name: place / f"{_FILES[name]}.nii.gz" for name in sequences}
        if (part and own_part != part) or not all(file.is_file() for file in images.values()):
            continue
        anatomy, lesion = place / f"t2_anatomy_reader{reader}.nii.gz", place / f"{tumour}_tumor_reader{reader}.nii.gz"
        masks = label_masks(anatomy, _ANATOMY) if anatomy.is_file() else {}
        # Reader 2 has drawn the test cases only: where nothing of a reader's is there, nothing was looked for.
        if masks or lesion.is_file():
            masks["DIL"] = (Mask(lesion),) if lesion.is_file() else ()
        attributes = {"part": own_part} | ({"positive": int(bool(masks["DIL"]))} if "DIL" in masks else {})
        name = f"{place.parent.name}-{place.name}"  # the numbers of the two downloads overlap
        cases.append(Case(name, name, images, masks, attributes))
    return require_cases(cases, folder, LAYOUT, "train/020/t2.nii.gz with adc.nii.gz, dwi.nii.gz")


def _validation_cases(files: Sequence[Path]) -> set[Path]:
    """The folders of the cases that the authors validated on."""
    return {
        table.parent / "train" / row["ID"].zfill(3)  # spreadsheets drop leading zeros
        for table in files
        if table.name == "valid.csv"
        for row in read_rows(table, ("ID",))
    }
