# SPDX-License-Identifier: Apache-2.0
"""Scores of synthetic CTs against SynthRAD2023, SynthRAD2025 and DGCF."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from ProstateXferLib.metrics import sct, sct_dice

FOLDER = Path(__file__).resolve().parents[2] / "Data" / "golden" / "metrics"
CASES = json.loads((FOLDER / "sct.json").read_text(encoding="utf-8"))["cases"]
DGCF = json.loads((FOLDER / "sct_dgcf.json").read_text(encoding="utf-8"))
TOLERANCE = {"rel": 1e-5, "abs": 1e-6, "nan_ok": True}
SOURCES = ("synthrad2023", "synthrad2025_metrics_repo", "synthrad2025_eval_container", "dgcf_range")
CLASSES = {1: "air", 2: "soft tissue", 3: "bone"}


def loaded(name):
    with np.load(FOLDER / name) as file:
        return {key: file[key] for key in file.files}


@pytest.fixture(scope="module")
def synthrad():
    return loaded("sct.npz")


@pytest.fixture(scope="module")
def dgcf():
    return loaded("sct_dgcf.npz")


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", CASES)
def test_synthrad(synthrad, name, source):
    volumes = [synthrad[f"{name}__{part}"] for part in ("gt", "pred", "mask")]
    expected = CASES[name][source]
    hu_range = tuple(expected["range"])
    ours = {
        "mae": lambda: sct.mae(*volumes),
        "psnr": lambda: sct.psnr(*volumes, hu_range),
        "ssim": lambda: sct.ssim(*volumes, hu_range),
        "ssim_2023_style": lambda: sct.ssim(*volumes, hu_range),
        "ms_ssim": lambda: sct.ms_ssim(*volumes, hu_range),
        "psnr_gt_range": lambda: psnr_of_own_range(*volumes),
    }
    compared = [key for key in expected if key in ours]
    assert len(compared) >= 3
    for key in compared:
        assert ours[key]() == pytest.approx(float(expected[key]), **TOLERANCE), key


def psnr_of_own_range(truth, synthetic, mask):
    """SynthRAD2023's option without a fixed range: that of the whole reference, and nothing is clipped."""
    return sct.psnr(truth, synthetic, mask, (int(truth.min()), int(truth.max())), clip=False)


def test_the_named_ranges_are_the_golden_ones():
    named = (sct.SYNTHRAD2023_RANGE, sct.SYNTHRAD2023_RANGE, sct.SYNTHRAD2025_RANGE, sct.DGCF_RANGE)
    for source, hu_range in zip(SOURCES, named, strict=True):
        assert all(tuple(case[source]["range"]) == hu_range for case in CASES.values())


@pytest.mark.parametrize(
    ("key", "score", "masked", "hu_range"),
    [
        ("psnr_nomask_full", sct.psnr, False, sct.DGCF_RANGE),
        ("psnr_mask_full", sct.psnr, True, sct.DGCF_RANGE),
        ("psnr_mask_-1024_3000", sct.psnr, True, sct.SYNTHRAD2023_RANGE),
        ("psnr_mask_gtmaskrange", sct.psnr, True, "reference"),
        ("ssim3d_mask_full", sct.ssim, True, sct.DGCF_RANGE),
        ("ssim3d_nomask_full", sct.ssim, False, sct.DGCF_RANGE),
        ("msssim_mask_full", sct.ms_ssim, True, sct.DGCF_RANGE),
        ("msssim_nomask_full", sct.ms_ssim, False, sct.DGCF_RANGE),
        ("msssim_mask_-1024_3000", sct.ms_ssim, True, sct.SYNTHRAD2023_RANGE),
        ("msssim_mask_gtmaskrange", sct.ms_ssim, True, "reference"),
        ("np_MAE_3D_mask", sct.mae, True, None),
        ("np_MAE_3D_nomask", sct.mae, False, None),
    ],
)
def test_dgcf(dgcf, key, score, masked, hu_range):
    found = score(dgcf["gt"], dgcf["pred"], dgcf["mask"] if masked else None, hu_range)
    assert found == pytest.approx(DGCF[key], **TOLERANCE)


def test_dgcf_psnr_without_clipping(dgcf):
    volumes = dgcf["gt"], dgcf["pred"], dgcf["mask"]
    assert sct.psnr(*volumes, "reference", clip=False) == pytest.approx(DGCF["psnr_mask_gtrange"], **TOLERANCE)
    # Its own simple metrics: neither clipped, in float32.
    for width, hu_range in (("3024", sct.DGCF_RANGE), ("4024", sct.SYNTHRAD2023_RANGE)):
        found = sct.psnr(*volumes, hu_range, clip=False)
        assert found == pytest.approx(DGCF[f"np_PSNR3D_mask_L{width}"], rel=1e-5)


def test_dgcf_tissue_classes(dgcf):
    found = sct.scores_by_tissue(dgcf["gt"], dgcf["pred"])
    for number, name in CLASSES.items():
        tissue = next(each for each in sct.TISSUE_CLASSES if each.name == name)
        assert np.array_equal(sct.tissue_mask(dgcf["gt"], tissue), dgcf["segmask_classes"] == number)
        assert found[name].psnr_db == pytest.approx(DGCF[f"psnr_class{number}"], **TOLERANCE)
        expected = DGCF[f"msssim_class{number}"]
        assert found[name].ms_ssim == pytest.approx(math.nan if expected is None else expected, **TOLERANCE)


def test_dgcf_label_dice(dgcf):
    labels = {value: value for value in range(7)}
    whole = sct_dice(dgcf["lab_gt"], dgcf["lab_pred"], labels, counted="prediction")
    assert whole.summary.mean == pytest.approx(DGCF["DICE_2D_nomask"], rel=1e-9)
    inside = sct_dice(dgcf["lab_gt"], dgcf["lab_pred"], labels, mask=dgcf["lab_mask"], counted="prediction")
    assert inside.summary.mean == pytest.approx(DGCF["DICE_2D_mask"], rel=1e-9)


def test_dgcf_whole_table(golden_data):
    """The CSV of its evaluation: classes 1 to 3, 4 = mask and the reference's range in it, 5 = everything.

    What it calls SSIM is MS-SSIM.
    """
    table = json.loads((golden_data / "dgcf" / "metrics.json").read_text(encoding="utf-8"))["folder_csv"]
    with np.load(golden_data / "dgcf" / "metrics.npz") as file:
        volumes = {key: file[key] for key in file.files if key.startswith("folder_")}
    for case in ("1PA001", "1PC023"):
        truth, mask = volumes[f"folder_gt_{case}"], volumes[f"folder_mask_{case}"]
        for row, part in (("source", "src"), ("synthesis", "pred")):
            other = volumes[f"folder_{part}_{case}"]
            by_tissue = sct.scores_by_tissue(truth, other)
            found = [(each.ms_ssim, each.psnr_db) for each in by_tissue.values()]
            for where, hu_range in ((mask, "reference"), (None, sct.DGCF_RANGE)):
                arguments = (truth, other, where, hu_range)
                found.append((sct.ms_ssim(*arguments), sct.psnr(*arguments)))
            expected = table[f"{row}_target_{case}.nii.gz"]
            for number, (similarity, ratio) in enumerate(found, start=1):
                theirs = expected[f"SSIM_{number}"]
                assert similarity == pytest.approx(math.nan if theirs is None else theirs, **TOLERANCE), (case, number)
                assert ratio == pytest.approx(expected[f"PSNR_{number}"], **TOLERANCE), (case, number)


def test_dgcf_of_the_larger_volume(golden_data):
    expected = json.loads((golden_data / "dgcf" / "metrics.json").read_text(encoding="utf-8"))
    with np.load(golden_data / "dgcf" / "metrics.npz") as file:
        volumes = [file[name] for name in ("gt2", "pred2", "mask2")]
    assert sct.ms_ssim(*volumes, sct.DGCF_RANGE) == pytest.approx(expected["msssim2_mask_full"], **TOLERANCE)
