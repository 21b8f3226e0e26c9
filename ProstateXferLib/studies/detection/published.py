# SPDX-License-Identifier: Apache-2.0
"""SAP's own numbers, to stand beside ours; source: papers.md, section 003 (J Bone Oncol 57 (2026) 100745).

Medians over 33 patients with bone metastases on whole-body MRI, seven-fold cross-validation without the tuning fold.
"""

PAPER = {
    "Baseline": {
        "sensitivity": 0.273,
        "precision": 0.143,
        "false_positives": 13.0,
        "f2": 0.259,
        "target_sensitivity": 0.875,
        "dice_detected": 0.560,
        "dice_lesions": 0.131,
        "dice_case": 0.212,
        "icc": 0.309,
        "froc_area": 2.96,
    },
    "SSL": {
        "sensitivity": 0.427,
        "precision": 0.200,
        "false_positives": 9.0,
        "f2": 0.312,
        "target_sensitivity": 1.0,
        "dice_detected": 0.622,
        "dice_lesions": 0.241,
        "dice_case": 0.333,
        "icc": 0.608,
        "froc_area": 4.82,
    },
    "SAP": {
        "sensitivity": 0.714,
        "precision": 0.167,
        "false_positives": 20.0,
        "f2": 0.448,
        "target_sensitivity": 1.0,
        "dice_detected": 0.662,
        "dice_lesions": 0.442,
        "dice_case": 0.463,
        "icc": 0.649,
        "froc_area": 7.10,
    },
}
"""Arm -> key of `lesion_figures.FIGURES` -> value."""

NOTES = (
    'The paper gives medians, of its "global Dice", too: it is read as the Dice of all lesions of a patient together.',
    "Its NSD of detected lesions (0.665, 0.691, 0.775) has no counterpart here: the tolerance is not public.",
    "Its area under the FROC is integrated in an unstated way; ours is by straight lines.",
)
"""What to know when comparing."""
