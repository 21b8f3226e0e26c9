# SPDX-License-Identifier: Apache-2.0
"""A small tree of every layout, two or three patients each."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dataset_trees.volumes import (
    gland_labels,
    image_array,
    lesion_labels,
    mask_surface,
    write,
    write_dicom,
    write_stl,
    zone_labels,
)
from dataset_trees.workbook import write_workbook

UID = "1.3.6.1.4.1.14519.5.2.1"


def write_tree(layout: str, folder: Path) -> Path:
    """A small data set of that layout in the folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    TREES[layout](folder)
    return folder


def _cases(folder: Path) -> None:
    for seed, name in enumerate(("a", "b", "c")):
        write(image_array(seed), folder / name / "t2w.nii.gz")
        write(gland_labels(), folder / name / "gland.nii.gz")
    write(lesion_labels(), folder / "b" / "lesion.nii.gz")
    write(zone_labels(2, 1), folder / "b" / "zones.nii.gz")
    (folder / "notes").mkdir()


def _csv(folder: Path) -> None:
    for seed, name in enumerate(("a", "b")):
        write(image_array(seed), folder / "images" / f"{name}.nrrd")
        write(image_array(seed + 10), folder / "images" / f"{name}_adc.nrrd")
        write(gland_labels() + lesion_labels(2), folder / "labels" / f"{name}.nrrd")
    (folder / "cases.csv").write_text(
        "case_id,patient_id,image:T2w,image:ADC,mask:Prostate,mask:DIL=2+3,site,lesions,age\n"
        "first,p1,images/a.nrrd,images/a_adc.nrrd,labels/a.nrrd,labels/a.nrrd,North,1,61.5\n"
        "second,,images/b.nrrd,,labels/b.nrrd,none,South,0,\n",
        encoding="utf-8",
    )


def _images_only(folder: Path) -> None:
    write(image_array(0), folder / "p1" / "t2w.nii.gz")
    write(gland_labels(), folder / "p1" / "gland.nii.gz")
    write(image_array(1), folder / "p1" / "later" / "t2w.mha")
    write(image_array(2), folder / "alone.nrrd")
    (folder / "readme.txt").write_text("no image", encoding="utf-8")


def _nnunet(folder: Path) -> None:
    description = {
        "channel_names": {"0": "T2", "1": "ADC"},
        "labels": {"background": 0, "prostate": [1, 2], "lesion": 2},
        "file_ending": ".nii.gz",
        "numTraining": 5,
    }
    (folder / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    names = [f"pat{i}_visit0" for i in range(4)] + ["pat3_visit1"]
    for seed, name in enumerate(names):
        for channel in (0, 1):
            write(image_array(10 * seed + channel), folder / "imagesTr" / f"{name}_{channel:04d}.nii.gz")
        write(gland_labels() + lesion_labels(), folder / "labelsTr" / f"{name}.nii.gz")
    for channel in (0, 1):
        write(image_array(90 + channel), folder / "imagesTs" / f"pat9_visit0_{channel:04d}.nii.gz")
    splits = [{"train": names[1:], "val": names[:1]}, {"train": names[:1] + names[3:], "val": names[1:3]}]
    (folder / "splits_final.json").write_text(json.dumps(splits), encoding="utf-8")


def _msd(folder: Path) -> None:
    import SimpleITK as sitk

    for seed, place in enumerate(("imagesTr/prostate_00", "imagesTr/prostate_02", "imagesTs/prostate_01")):
        path = folder / f"{place}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        volumes = [sitk.GetImageFromArray(image_array(10 * seed + channel)) for channel in (0, 1)]
        for volume in volumes:
            volume.SetSpacing((2.0, 2.5, 3.0))
            volume.SetOrigin((-20.0, -30.0, 5.0))
        sitk.WriteImage(sitk.JoinSeries(volumes), str(path))
    for name in ("prostate_00", "prostate_02"):
        write(zone_labels(2, 1), folder / "labelsTr" / f"{name}.nii.gz")
    description = {
        "modality": {"0": "T2", "1": "ADC"},
        "labels": {"0": "background", "1": "PZ", "2": "TZ"},
        "training": [
            {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}
            for name in ("prostate_00", "prostate_02")
        ],
        "test": ["./imagesTs/prostate_01.nii.gz"],
    }
    (folder / "dataset.json").write_text(json.dumps(description), encoding="utf-8")


def _tcia(folder: Path) -> None:
    collection, surfaces = folder / "manifest-1" / "Prostate-MRI-US-Biopsy", folder / "STLs" / "STLs"
    rows = [("Patient ID", "seriesInstanceUID_US", "Target No.", "seriesInstanceUID_MR", UCLA)]
    for number, targets in (("0001", (2, 5)), ("0002", ())):
        patient, mr, us = f"Prostate-MRI-US-Biopsy-{number}", f"{UID}.{int(number)}1", f"{UID}.{int(number)}2"
        study = collection / patient / "01-01-2010-NA-MRI PROSTATE"
        write_dicom(image_array(int(number)), study / "3.000000-t2-98765", mr)
        write_dicom(image_array(int(number) + 50), study / "1.000000-us-12345", us, modality="US")
        for uid in (mr, us):
            write_stl(mask_surface(gland_labels()), surfaces / f"{patient}-ProstateSurface-seriesUID-{uid}.STL")
        for target, score in enumerate(targets, start=1):
            write_stl(mask_surface(lesion_labels()), surfaces / f"{patient}-Target{target}-seriesUID-{mr}.STL")
            rows.append((patient, None, target, mr, score))
    write_workbook(rows, folder / "Target-Data_2019-12-05-2.xlsx")


UCLA = "UCLA Score (Similar to PIRADS v2)"


def _picai(folder: Path) -> None:
    labels = folder / "picai_labels"
    lesions, glands = labels / "csPCa_lesion_delineations", labels / "anatomical_delineations"
    studies = {"10000_1000000": 3, "10000_1000001": 1, "10001_1000002": 0, "10002_1000003": 4}
    for seed, (study, grade) in enumerate(studies.items()):
        for channel, name in enumerate(("t2w", "adc", "hbv")):
            write(image_array(10 * seed + channel), folder / "images" / study[:5] / f"{study}_{name}.mha")
        write(gland_labels(), glands / "whole_gland" / "AI" / "Bosma22b" / f"{study}.nii.gz")
        write(zone_labels(2, 1), glands / "zonal_pz_tz" / "AI" / "Yuan23" / f"{study}.nii.gz")
        place = "human_expert/Pooch25" if study == "10002_1000003" else "human_expert/resampled"
        if study != "10001_1000002":
            value = 1 if "Pooch" in place else grade
            write(lesion_labels(value), lesions / place / f"{study}.nii.gz")
    (labels / "clinical_information").mkdir()
    (labels / "clinical_information" / "marksheet.csv").write_text(
        "patient_id,study_id,lesion_ISUP,case_ISUP,case_csPCa,center\n"
        '10000,1000000,"3,0",3,YES,RUMC\n10000,1000001,1,1,NO,RUMC\n'
        "10001,1000002,,0,NO,ZGT\n10002,1000003,4,4,YES,PCNN\n",
        encoding="utf-8",
    )


def _nci_isbi(folder: Path) -> None:
    names = {"Prostate3T-01-0001": "Training", "ProstateDx-01-0055": "Training", "ProstateDx-01-0002": "Leaderboard"}
    for seed, (patient, part) in enumerate(names.items()):
        write_dicom(
            image_array(seed), folder / "DICOM" / patient / f"{UID}.{seed}" / f"{UID}.{seed}.1", f"{UID}.9{seed}"
        )
        ending = "_truth" if part == "Leaderboard" else ""
        write(zone_labels(2, 1), folder / part / f"{patient}{ending}.nrrd")


def _i2cvb(folder: Path) -> None:
    for seed, patient in enumerate(("Patient_383", "Patient_387")):
        write_dicom(image_array(seed), folder / patient / "T2W", f"{UID}.{seed}.1")
        truth = folder / patient / "GT"
        write_dicom(255 * gland_labels().astype(np.int16), truth / "prostate", f"{UID}.{seed}.2")
        if seed == 0:
            write_dicom(255 * lesion_labels().astype(np.int16), truth / "cap", f"{UID}.{seed}.3")
            write_dicom(zone_labels(0, 1), truth / "pz", f"{UID}.{seed}.4")
            write_dicom(zone_labels(1, 0), truth / "cg", f"{UID}.{seed}.5")


def _promise12(folder: Path) -> None:
    for seed in (0, 1):
        write(image_array(seed), folder / "TrainingData_Part1" / f"Case{seed:02d}.mhd")
        write(gland_labels(), folder / "TrainingData_Part1" / f"Case{seed:02d}_segmentation.mhd")
    write(image_array(5), folder / "TestData" / "Case00.mhd")


def _prostate158(folder: Path) -> None:
    for seed, place in enumerate(("train/020", "train/021", "test/001")):
        for channel, name in enumerate(("t2", "adc", "dwi")):
            write(image_array(10 * seed + channel), folder / place / f"{name}.nii.gz")
        write(zone_labels(1, 2), folder / place / "t2_anatomy_reader1.nii.gz")
    write(lesion_labels(), folder / "train/020" / "adc_tumor_reader1.nii.gz")
    write(lesion_labels(0), folder / "train/021" / "empty.nii.gz")
    (folder / "train.csv").write_text("ID,t2\n20,train/020/t2.nii.gz\n", encoding="utf-8")
    (folder / "valid.csv").write_text("ID,t2\n21,train/021/t2.nii.gz\n", encoding="utf-8")


def _paired(folder: Path, patients: dict[str, str], suffix: str) -> None:
    for seed, (place, source) in enumerate(patients.items()):
        write(image_array(seed), folder / place / f"{source}{suffix}")
        write(image_array(seed + 10) - 200, folder / place / f"ct{suffix}")
        write(gland_labels(), folder / place / f"mask{suffix}")


def _synthrad2023(folder: Path) -> None:
    _paired(
        folder,
        {"Task1/pelvis/1PA001": "mr", "Task1/pelvis/1PC002": "mr", "Task2/pelvis/2PA001": "cbct"},
        ".nii.gz",
    )
    write(image_array(7), folder / "Task1/pelvis/1PA009/mr.nii.gz")
    (folder / "Task1/pelvis/overview").mkdir()


def _synthrad2025(folder: Path) -> None:
    _paired(folder, {"Task1/AB/1ABA005": "mr", "Task1/HN/1HNB001": "mr", "Task2/TH/2THC001": "cbct"}, ".mha")


def _panther(folder: Path) -> None:
    for seed, name in enumerate(("10000_0001", "10001_0001")):
        write(image_array(seed), folder / "PANTHER_Task1" / "ImagesTr" / f"{name}_0000.mha")
        write(gland_labels(2) - lesion_labels(), folder / "PANTHER_Task1" / "LabelsTr" / f"{name}.mha")
    write(image_array(5), folder / "PANTHER_Task1" / "ImagesTr_unlabeled" / "10000_0002_0000.mha")
    write(image_array(6), folder / "PANTHER_Task2" / "ImagesTr" / "10303_0000.mha")
    write(gland_labels(2) - lesion_labels(), folder / "PANTHER_Task2" / "LabelsTr" / "10303.mha")


def _skeleton() -> np.ndarray:
    """All nine values: the pelvis in the back, the others beside each other in front of it."""
    labels = zone_labels(3, 4)
    for column, value in enumerate((1, 2, 5, 6, 7, 8, 9), start=6):
        labels[1:7, 5:10, column] = value
    return labels


def _wb_mri(folder: Path) -> None:
    for seed, place in enumerate(("v01/siteA", "v01/siteB", "m07/baseline")):
        write(image_array(seed), folder / place / "t1w.nii.gz")
        write(image_array(seed + 10), folder / place / "dwi.nii.gz")
        name, labels = ("lesions", lesion_labels(7)) if place[0] == "m" else ("skeleton", _skeleton())
        write(labels, folder / place / f"{name}.nii.gz")
    (folder / "scans.csv").write_text("subject,scan,lesions,site\nm07,baseline,1,Ghent\n", encoding="utf-8")


TREES: dict[str, Callable[[Path], None]] = {
    "cases": _cases,
    "csv": _csv,
    "images-only": _images_only,
    "nnunet": _nnunet,
    "msd": _msd,
    "tcia-prostate-mri-us-biopsy": _tcia,
    "picai": _picai,
    "nci-isbi-2013": _nci_isbi,
    "i2cvb": _i2cvb,
    "promise12": _promise12,
    "prostate158": _prostate158,
    "synthrad2023": _synthrad2023,
    "synthrad2025": _synthrad2025,
    "panther": _panther,
    "wb-mri": _wb_mri,
}
