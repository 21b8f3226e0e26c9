# SPDX-License-Identifier: Apache-2.0
"""Student, teacher and Gram teacher within one stage."""

import copy
import dataclasses

import pytest
import torch

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.dino_head import DINOHead
from ProstateXferLib.networks.dinov3_training import TrainingNoise
from ProstateXferLib.training.augmentation.views import CropSizes, ViewOptions
from ProstateXferLib.training.tasks.self_supervision_learner import EncoderWithHeads, SelfSupervisedLearner
from ProstateXferLib.training.tasks.self_supervision_schedules import Course
from ProstateXferLib.training.tasks.self_supervision_settings import GramSettings, SelfSupervisionSettings

SETTINGS = SelfSupervisionSettings(
    crops=(CropSizes(64, 32),),
    views=ViewOptions(small_count=3),
    noise=TrainingNoise(drop_path=0.2, rope_rescale=2.0),
    momentum=Course.constant(0.9),
    freeze_last_layer_epochs=1,
)
STEPS, EPOCHS = 40, 4


@pytest.fixture
def learner_of(random_network):
    def make(settings=SETTINGS, gram=None, seed=0):
        torch.manual_seed(seed)
        heads = [DINOHead(64, 24, hidden=32, bottleneck=16) for _ in range(2)]
        student = EncoderWithHeads(random_network("dinov3", depth=2), *heads)
        return SelfSupervisedLearner(student, settings, steps=STEPS, epochs=EPOCHS, gram=gram).train()

    return make


def batch_of(samples=4, gram=0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(samples, 2, 16, generator=generator) < 0.3
    masks[0] = False
    batch = {
        "large": torch.randn(samples, 2, 1, 64, 64, generator=generator),
        "small": torch.randn(samples, 3, 1, 32, 32, generator=generator),
        "masks": masks,
    }
    return batch | ({"gram": torch.randn(samples, 2, 1, gram, gram, generator=generator)} if gram else {})


def stepped(learner, step=0):
    """One plain optimiser step, as the engine makes it."""
    optimiser = torch.optim.SGD([p for p in learner.parameters() if p.requires_grad], lr=0.1)
    torch.manual_seed(step)
    loss, _ = learner(batch_of(), step)
    loss.backward()
    learner.hold_prototypes(step)
    optimiser.step()
    learner.move_teacher(step)
    return learner


def test_the_teacher_begins_as_the_student_and_follows_it(learner_of):
    learner = learner_of()
    before = copy.deepcopy(learner.teacher.state_dict())
    assert all(torch.equal(before[key], value) for key, value in learner.student.state_dict().items())
    stepped(learner, step=30)
    for (name, teacher), student in zip(learner.teacher.named_parameters(), learner.student.parameters(), strict=True):
        torch.testing.assert_close(teacher, 0.9 * before[name] + 0.1 * student.detach(), rtol=1e-5, atol=1e-7)
    assert any(not torch.equal(before[key], value) for key, value in learner.teacher.state_dict().items())


def test_what_the_teacher_says_follows_its_weights(learner_of):
    """On the CPU frozen layers run on packed copies of their weights; the copies must not outlive a step."""
    learner = stepped(learner_of(), step=30)
    image = batch_of()["large"][:, 0].expand(-1, 3, -1, -1)
    with torch.no_grad():
        first = learner.teacher.backbone(image)
    stepped(learner, step=31)
    with torch.no_grad():
        now = learner.teacher.backbone(image)
        fresh = copy.deepcopy(learner.teacher.backbone)(image)
    assert not torch.equal(first, now)
    torch.testing.assert_close(now, fresh)


def test_the_student_alone_is_trained(learner_of):
    learner = learner_of(dataclasses.replace(SETTINGS, gram=GramSettings()), gram=learner_of().student.backbone)
    torch.manual_seed(0)
    loss, _ = learner(batch_of(gram=96), 30)
    loss.backward()
    assert [name for name, p in learner.named_parameters() if p.requires_grad != name.startswith("student.")] == []
    assert all(p.grad is None for p in (*learner.teacher.parameters(), *learner.gram.parameters()))
    lacking = [name for name, p in learner.student.named_parameters() if p.grad is None or not p.grad.any()]
    assert lacking == []  # the mask token and both heads included


def test_teacher_and_gram_teacher_stay_in_evaluation_mode(learner_of):
    learner = learner_of(dataclasses.replace(SETTINGS, gram=GramSettings()), gram=learner_of().student.backbone)
    learner.train()
    assert learner.student.training and not learner.teacher.training and not learner.gram.training


def test_the_loss_weighs_its_parts_as_the_reference_does(learner_of):
    """With 3 small crops there are 2 pairs of large crops and 6 with small ones."""
    settings = dataclasses.replace(
        SETTINGS, local_weight=Course.constant(0.5), gram=GramSettings(weight=Course.constant(1.5))
    )
    torch.manual_seed(0)
    loss, parts = learner_of(settings, gram=learner_of(seed=1).student.backbone)(batch_of(gram=96), 5)
    expected = (
        2 / 8 * parts["dino_global"]
        + 0.5 * 6 / 8 * parts["dino_local"]
        + parts["ibot"]
        + 0.1 * parts["koleo"]
        + 1.5 * parts["gram"]
    )
    torch.testing.assert_close(loss.detach(), expected)
    assert not any(part.requires_grad for part in parts.values())


def test_eight_small_crops_weigh_sixteen_eighteenths(learner_of):
    learner = learner_of(dataclasses.replace(SETTINGS, views=ViewOptions(small_count=8)))
    parts = dict.fromkeys(("dino_global", "ibot", "koleo"), torch.tensor(0.0)) | {"dino_local": torch.tensor(1.0)}
    assert float(learner._total(parts, 0)) == pytest.approx(16 / 18)


def test_a_teacher_that_says_nothing_is_told(learner_of):
    learner = learner_of(dataclasses.replace(SETTINGS, noise=TrainingNoise()))
    with torch.no_grad():
        talking = learner(batch_of(), 0)[1]["target_entropy"]
        learner.teacher.dino_head.last_layer.weight.zero_()
        silent = learner(batch_of(), 0)[1]["target_entropy"]
    assert float(silent) == pytest.approx(1.0, abs=1e-5) and 0 < float(talking) < 0.999


def test_prototypes_are_held_in_the_first_epochs_only(learner_of):
    held = learner_of()
    before = held.student.dino_head.last_layer.weight.detach().clone()
    stepped(held, step=9)  # ten steps make an epoch
    assert torch.equal(held.student.dino_head.last_layer.weight, before)
    stepped(held, step=10)
    assert not torch.equal(held.student.dino_head.last_layer.weight, before)


def test_the_gram_loss_is_zero_where_nothing_changed_and_grows_with_the_student(learner_of):
    settings = dataclasses.replace(SETTINGS, noise=TrainingNoise(), gram=GramSettings())
    first = learner_of(settings)
    learner = learner_of(settings, gram=copy.deepcopy(first.student.backbone))
    batch = batch_of()
    batch["masks"] = torch.zeros_like(batch["masks"])
    assert float(learner(batch, 0)[1]["gram"]) < 1e-8
    stepped(learner, step=30)
    assert float(learner(batch, 0)[1]["gram"].detach()) > 1e-8


def test_the_gram_teacher_is_made_anew_every_few_steps_and_only_so_often(learner_of):
    gram = GramSettings(refresh_steps=3, refreshes=2)
    assert [step for step in range(20) if gram.refreshes_after(step)] == [2, 5]
    learner = learner_of(dataclasses.replace(SETTINGS, gram=gram), gram=learner_of(seed=1).student.backbone)
    with torch.no_grad():
        learner.student.backbone.norm.weight.add_(1.0)
    for step in range(9):
        learner.move_teacher(step)
        same = torch.equal(learner.gram.norm.weight, learner.teacher.backbone.norm.weight)
        assert same == (step in (2, 5))


def test_views_of_one_slice_are_compared_with_each_other_and_not_with_other_slices(learner_of):
    """Swapping two slices of the batch swaps rows of everything and changes no mean."""
    learner = learner_of(dataclasses.replace(SETTINGS, noise=TrainingNoise()))
    with torch.no_grad():  # fresh prototypes score everything nearly alike
        for head in (learner.student.dino_head, learner.teacher.dino_head):
            head.last_layer.weight.mul_(20)
    batch = batch_of()
    swapped = {name: tensor[[1, 0, 2, 3]] for name, tensor in batch.items()}
    mixed = batch | {"small": batch["small"][[1, 0, 2, 3]]}
    with torch.no_grad():
        loss, same, other = (float(learner(b, 30)[0]) for b in (batch, swapped, mixed))
    assert same == pytest.approx(loss, rel=1e-5) and other != pytest.approx(loss, rel=1e-4)


def test_a_students_batch_learns(learner_of):
    learner = learner_of(dataclasses.replace(SETTINGS, noise=TrainingNoise(), freeze_last_layer_epochs=0))
    optimiser = torch.optim.AdamW(learner.student.parameters(), lr=2e-3)
    losses = []
    for _ in range(25):
        loss, _ = learner(batch_of(), 39)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.2


@pytest.mark.parametrize(
    "wrong",
    [{"sequences": ()}, {"crops": ()}, {"momentum": Course.constant(1.2)}, {"ibot_weight": -1.0}],
)
def test_senseless_settings_are_refused(wrong):
    with pytest.raises(ProstateXferError):
        SelfSupervisionSettings(**wrong)


def test_refreshing_needs_a_number_of_steps_and_of_times():
    with pytest.raises(ProstateXferError, match="go together"):
        GramSettings(refresh_steps=10)


def test_prototypes_begin_as_far_apart_as_was_said():
    torch.manual_seed(0)
    heads = {std: DINOHead(32, 400, hidden=16, bottleneck=64, prototype_std=std) for std in (0.02, 0.15)}
    for std, head in heads.items():
        assert head.last_layer.weight.std().item() == pytest.approx(std, rel=0.03)
        assert head.mlp[0].weight.std().item() == pytest.approx(0.02, rel=0.1)
