# SPDX-License-Identifier: Apache-2.0
"""Self-supervised losses, schedules and masks against facebookresearch/dinov3 (ssl_losses.npz)."""

import random

import numpy as np
import pytest
import torch

from ProstateXferLib.networks.dino_head import DINOHead
from ProstateXferLib.training.augmentation.block_masks import block_mask
from ProstateXferLib.training.losses.self_supervised.dino import dino_loss
from ProstateXferLib.training.losses.self_supervised.gram import gram_loss, resize_tokens
from ProstateXferLib.training.losses.self_supervised.ibot import ibot_loss, patch_weights
from ProstateXferLib.training.losses.self_supervised.koleo import koleo_loss
from ProstateXferLib.training.losses.self_supervised.sinkhorn import sinkhorn
from ProstateXferLib.training.tasks.self_supervision_schedules import Course, even_rise


@pytest.fixture
def reference(golden):
    return golden("mr-dinov3/ssl_losses.npz")


@pytest.fixture
def equals(reference):
    def check(ours, name, tolerance=1e-5):
        torch.testing.assert_close(ours, reference.tensor(name), rtol=1e-6, atol=tolerance)

    return check


@pytest.fixture
def targets(reference):
    """The teacher's distributions (views, B, K) at temperature 0.07."""
    return sinkhorn(reference.tensor("dino/teacher_logits"), 0.07).unflatten(0, (2, -1))


@pytest.mark.parametrize("temperature", [0.04, 0.07])
def test_balanced_targets_of_the_class_token(reference, equals, temperature):
    equals(sinkhorn(reference.tensor("dino/teacher_logits"), temperature), f"dino/sk_temp{temperature}")


def test_dino_loss_between_global_crops(reference, equals, targets):
    student = reference.tensor("dino/student_global_logits")
    equals(dino_loss(student, targets, other_views_only=True), "dino/loss_global_ignore_diag")
    equals(dino_loss(student, targets), "dino/loss_global_all")


def test_dino_loss_of_local_crops(reference, equals, targets):
    equals(dino_loss(reference.tensor("dino/student_local_logits"), targets), "dino/loss_local")


def test_ibot_targets_weights_and_loss(reference, equals):
    masks = reference.tensor("ibot/masks")
    weights = patch_weights(masks, reference.tensor("ibot/mask_indices"))
    equals(weights, "ibot/masks_weight")
    balanced = sinkhorn(reference.tensor("ibot/teacher_logits"), 0.07)
    equals(balanced, "ibot/sk")
    student = reference.tensor("ibot/student_logits")
    equals(ibot_loss(student, balanced, weights, images=len(masks)), "ibot/loss")


def test_koleo_loss(reference, equals):
    equals(koleo_loss(reference.tensor("koleo/x")), "koleo/loss")


@pytest.mark.parametrize(("per_image", "name"), [(True, "img"), (False, "batch")])
def test_gram_loss(reference, equals, per_image, name):
    student, teacher = reference.tensor("gram/student"), reference.tensor("gram/teacher")
    equals(gram_loss(student, teacher, per_image=per_image), f"gram/loss_{name}_level")


def test_tokens_of_a_larger_crop_on_the_students_grid(reference, equals):
    ours = resize_tokens(reference.tensor("gram/highres_teacher"), (8, 8), (5, 5))
    equals(ours, "gram/highres_teacher_resized")


def test_head(reference, equals):
    head = DINOHead(20, 24, hidden=28, bottleneck=12)
    head.load_state_dict(reference.weights("head/w/"))
    equals(head(reference.tensor("head/in")).detach(), "head/out")


def test_courses_of_a_value_over_the_steps(reference):
    held = Course(start=0.0, peak=2e-4, end=5e-5, warmup_epochs=10, cosine_epochs=30)
    np.testing.assert_allclose(
        [held.at(step, steps_per_epoch=1, steps=60) for step in range(60)],
        reference["sched/warmup_cosine_const"],
        rtol=1e-12,
        atol=1e-18,
    )
    whole = Course(start=0.0, peak=1e-3, end=1e-6, warmup_epochs=2)
    np.testing.assert_allclose(
        [whole.at(step, steps_per_epoch=5, steps=50) for step in range(50)],
        reference["sched/warmup_cosine"],
        rtol=1e-12,
        atol=1e-18,
    )


def test_teacher_temperature(reference):
    ours = [even_rise(step, 0.04, 0.07, steps=30) for step in range(40)]
    np.testing.assert_allclose(ours[:30], reference["sched/v1_teacher_temp"], rtol=1e-12)
    assert ours[30:] == [0.07] * 10


def test_masks_of_the_seeds(reference):
    rectangles, singles = random.Random(11), np.random.RandomState(11)
    for count, expected in zip((0, 19, 40, 60, 98), reference["mask/examples"], strict=True):
        mask = block_mask((14, 14), count, rectangles=rectangles, singles=singles, largest=0.5 * 196)
        np.testing.assert_array_equal(mask, expected)
