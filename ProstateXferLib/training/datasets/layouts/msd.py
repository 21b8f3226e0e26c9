# SPDX-License-Identifier: Apache-2.0
"""A task of the Medical Segmentation Decathlon.

    FOLDER/                             Task05_Prostate itself
      dataset.json                      modality {"0": "T2", "1": "ADC"}, labels {"0": "background", "1": "PZ",
                                        "2": "TZ"}, training [{"image": "./imagesTr/prostate_00.nii.gz", "label": ...}],
                                        test ["./imagesTs/prostate_03.nii.gz", ...]
      imagesTr/prostate_00.nii.gz       4-D: the sequences on the fourth axis (3-D where there is one sequence)
      labelsTr/prostate_00.nii.gz
      imagesTs/prostate_03.nii.gz

A case is an image file, a patient of its own. Sequences and structures are named as in the layout nnunet; both zones
together make the Prostate as well.

Options: sequences ([]): those to take, e.g. ["T2w"]; all by default. structures ({}): label name -> structure. part
("train"): "test" or "" for both. Attribute: part.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.datasets.folder_tree import chosen, require_cases, stem_of
from ProstateXferLib.training.datasets.label_names import label_masks, structure_values
from ProstateXferLib.training.datasets.sequence_names import sequence_name
from ProstateXferLib.training.datasets.tables import read_json

LAYOUT = "msd"


def find(
    folder: Path, sequences: Sequence[str] = (), structures: Mapping[str, str] | None = None, part: str = "train"
) -> list[Case]:
    """Every image that dataset.json lists.

    Raises:
        ProstateXferError: there is none, dataset.json is missing or not as it should be, or a file that it lists is not
            there, or the data set lacks a sequence asked for.
    """
    chosen(part, ("train", "test", ""), option="part", layout=LAYOUT)
    description = read_json(folder / "dataset.json", ("modality", "labels", "training"))
    channels = {sequence_name(str(name), {}): int(number) for number, name in description["modality"].items()}
    for name in sequences:
        chosen(name, channels, option="sequences", layout=LAYOUT)
    taken = {name: number for name, number in channels.items() if not sequences or name in sequences}
    labels = {str(name): int(value) for value, name in description["labels"].items()}
    values = structure_values(labels, structures or {})
    entries = [("train", str(entry["image"]), str(entry["label"])) for entry in description["training"]]
    entries += [("test", str(entry), "") for entry in description.get("test", [])]
    cases = []
    for own_part, image, label in entries:
        if part not in ("", own_part):
            continue
        path = _existing(folder / image)
        masks = label_masks(_existing(folder / label), values) if label else {}
        # With one sequence the images are 3-D: no channel has to be taken out.
        own_channels = taken if len(channels) > 1 else {}
        name = stem_of(path)
        cases.append(Case(name, name, dict.fromkeys(taken, path), masks, {"part": own_part}, own_channels))
    return require_cases(cases, folder, LAYOUT, "dataset.json with training images")


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ProstateXferError(f"dataset.json lists '{path}', which is not there: complete the download.")
    return path
