# SPDX-License-Identifier: Apache-2.0
"""What the miniature study trains and on what it is tested: encoders, then arm after arm, fold by fold."""

from dataclasses import dataclass

from ProstateXferLib.training.recipe.schema import Source

TEST = Source("cases", "real/prostate_t2w", options={"require": ["t2w", "gland"]})
"""Other patients, other scanners; never trained on."""
CV_NAME, TEST_NAME = "PROMISE12, out of fold", "five cases of other centres"


@dataclass(frozen=True)
class Encoder:
    """A self-supervised encoder: its recipe, and the encoder that it starts from."""

    name: str
    title: str
    recipe: str
    start: str = ""


@dataclass(frozen=True)
class Arm:
    """One way to begin: its recipe, and the encoder whose weights it is given ("" where it brings its own start)."""

    name: str
    title: str
    recipe: str
    encoder: str = ""


ENCODERS = (
    Encoder("ct", "CT self-supervision", "miniature/ct-encoder"),
    Encoder("mr", "MR adaptation of it", "miniature/mr-encoder", start="ct"),
)
ARMS = (
    Arm("unet", "U-Net, trained from scratch", "miniature/unet"),
    Arm("random-frozen", "frozen random encoder", "miniature/random-frozen"),
    Arm("base-frozen", "frozen CT encoder", "miniature/pretrained-frozen", encoder="ct"),
    Arm("mr-frozen", "frozen MR-adapted encoder", "miniature/pretrained-frozen", encoder="mr"),
)
