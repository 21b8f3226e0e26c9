# SPDX-License-Identifier: Apache-2.0
"""The in-domain transfer paper's own numbers, to stand beside ours; source: papers.md, section 001 (seed 001, in full).

Its sites: A = RUNMC (NCI-ISBI 2013; 3 T, surface coil, 30 patients, 396 slices), B = BMC (NCI-ISBI 2013; 1.5 T,
endorectal coil, 30, 384), C = I2CVB Dijon (3 T, no coil, 19, 468). All numbers are per cent.
"""

SITES = {
    "A": "RUNMC, 3 T, surface coil, 30 patients",
    "B": "BMC, 1.5 T, endorectal coil, 30 patients",
    "C": "I2CVB, 3 T, no coil, 19 patients",
}

VALIDATION_DICE = {
    "efficientnet-b0": {"unet": 87.79, "unetplusplus": 88.31, "manet": 87.38, "deeplabv3": 88.07},
    "efficientnet-b1": {"unet": 88.57, "unetplusplus": 88.18, "manet": 88.06, "deeplabv3": 87.85},
    "efficientnet-b2": {"unet": 89.09, "unetplusplus": 88.79, "manet": 88.25, "deeplabv3": 87.59},
    "efficientnet-b3": {"unet": 88.84, "unetplusplus": 89.27, "manet": 88.71, "deeplabv3": 87.95},
    "resnet18": {"unet": 86.72, "unetplusplus": 88.61, "manet": 86.16, "deeplabv3": 87.50},
    "resnet34": {"unet": 87.29, "unetplusplus": 87.81, "manet": 88.17, "deeplabv3": 89.04},
    "resnet50": {"unet": 87.14, "unetplusplus": 86.22, "manet": 85.26, "deeplabv3": 88.93},
}
"""Table II: encoder -> architecture -> mean validation Dice at site A over five folds (its deviations are not in the
notes that this was taken from)."""

TEST_DICE_IOU = {
    (): {"A": (89.09, 82.52), "B": (88.68, 81.41), "C": (87.11, 80.26)},
    ("A",): {"B": (91.42, 84.89), "C": (90.48, 83.34)},
    ("B",): {"A": (90.90, 84.34), "C": (88.27, 80.41)},
    ("C",): {"A": (92.34, 86.75), "B": (91.22, 84.74)},
    ("A", "B"): {"C": (89.36, 81.92)},
    ("B", "A"): {"C": (89.94, 82.44)},
    ("A", "C"): {"B": (91.62, 85.36)},
    ("C", "A"): {"B": (90.89, 84.13)},
    ("B", "C"): {"A": (91.65, 85.53)},
    ("C", "B"): {"A": (91.48, 85.07)},
    "all": {"A": (91.13, 84.83), "B": (90.83, 84.07), "C": (87.68, 80.48)},
}
"""Table III: sites trained on before the target, in this order (none: ImageNet alone; "all": all sites merged) ->
target -> test Dice and IoU."""

NOTES = (
    'The paper\'s Table III gives "site A to site A" as 89.09: that is the baseline without transfer, here "none".',
    "Its IoU is no function of its Dice (89.09 pooled over pixels would be an IoU of 80.3; the table says 82.52), so "
    "it averages over images; over slices or patients it does not say. The mean over slices is the default here.",
    "It does not state the loss, the image size or augmentation; docs/exchange.md lists what was chosen.",
)
"""What to know when comparing."""
