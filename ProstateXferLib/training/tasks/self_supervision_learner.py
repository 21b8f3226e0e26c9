# SPDX-License-Identifier: Apache-2.0
"""Student, teacher and Gram teacher of a DINOv3, and the loss of one batch of views.

Source: DINOv3 (arXiv 2508.10104), reference notes 3.4.
"""

import copy
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ProstateXferLib.networks.dino_head import DINOHead
from ProstateXferLib.networks.dinov3 import PATCH, DINOv3
from ProstateXferLib.networks.dinov3_training import TrainingNoise, noisy_features
from ProstateXferLib.training.augmentation.views import GLOBAL_CROPS
from ProstateXferLib.training.losses.self_supervised.dino import dino_loss
from ProstateXferLib.training.losses.self_supervised.gram import gram_loss, resize_tokens
from ProstateXferLib.training.losses.self_supervised.ibot import ibot_loss, patch_weights
from ProstateXferLib.training.losses.self_supervised.koleo import koleo_loss
from ProstateXferLib.training.losses.self_supervised.sinkhorn import sinkhorn
from ProstateXferLib.training.tasks.self_supervision_schedules import Course, even_rise
from ProstateXferLib.training.tasks.self_supervision_settings import SelfSupervisionSettings

NO_NOISE = TrainingNoise()


class EncoderWithHeads(nn.Module):
    """A DINOv3 and its two heads, under the names of MedDINOv3's file (reference notes 1.6d)."""

    def __init__(self, backbone: DINOv3, dino_head: DINOHead, ibot_head: DINOHead) -> None:
        super().__init__()
        self.backbone, self.dino_head, self.ibot_head = backbone, dino_head, ibot_head


class SelfSupervisedLearner(nn.Module):
    """`learner(batch, step)` -> (loss, parts). Teacher and Gram teacher are never trained and stay in eval mode.

    Args:
        student: what the optimiser trains; the teacher begins as a copy of it.
        settings: of the stage.
        steps, epochs: length of the stage. A stage that is cut short (`max_steps`) goes through the same courses,
            compressed, as its learning rate does.
        gram: the Gram teacher, where the settings want one.
    """

    def __init__(
        self,
        student: EncoderWithHeads,
        settings: SelfSupervisionSettings,
        *,
        steps: int,
        epochs: int,
        gram: DINOv3 | None = None,
    ) -> None:
        super().__init__()
        self.settings, self._steps, self._steps_per_epoch = settings, steps, steps / epochs
        self.student = student
        self.teacher = _frozen(copy.deepcopy(student))
        self.gram = None if gram is None else _frozen(gram)

    def train(self, mode: bool = True) -> "SelfSupervisedLearner":
        """Only the student changes mode."""
        super().train(mode)
        for module in (self.teacher, self.gram):
            if module is not None:
                module.eval()
        return self

    def forward(self, batch: Mapping[str, Tensor], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch of views (sampling/slice_views.py) and its unweighted parts.

        Besides them "target_entropy" is told, the mean entropy of the teacher's class targets over the largest one:
        at 1 the teacher says nothing about any crop, and the DINO losses stand still at log K.

        All large crops, hidden patches or not, go through the network at once, and so do all small ones.
        """
        channels = self.student.backbone.patch_embed.proj.in_channels
        large, small = (_views_first(batch[name]).expand(-1, channels, -1, -1) for name in ("large", "small"))
        masks = _views_first(batch["masks"])
        hidden = masks.flatten().nonzero()[:, 0]  # once: on a GPU every such look waits for it
        class_targets, patch_targets = self._targets(large, hidden, step)
        noise = self.settings.noise if self.training else NO_NOISE
        seen = noisy_features(self.student.backbone, large, masks, noise=noise)
        seen_small = noisy_features(self.student.backbone, small, noise=noise)
        scores = self.student.dino_head(torch.cat([seen["class"], seen_small["class"]]))
        large_scores, small_scores = scores.split([len(large), len(small)])
        views = seen["class"].unflatten(0, (GLOBAL_CROPS, -1))
        parts = {
            "dino_global": dino_loss(
                large_scores.unflatten(0, (GLOBAL_CROPS, -1)), class_targets, other_views_only=True
            ),
            "dino_local": dino_loss(small_scores.unflatten(0, (self._small_count, -1)), class_targets),
            "ibot": ibot_loss(
                self.student.ibot_head(seen["patches"].flatten(0, 1)[hidden]),
                patch_targets,
                patch_weights(masks, hidden),
                images=len(masks),
            ),
            "koleo": torch.stack([koleo_loss(view) for view in views]).sum(),
        }
        if self.gram is not None:
            parts["gram"] = self._gram_part(batch, large, seen["patches"])
        logged = {name: part.detach() for name, part in parts.items()}
        return self._total(parts, step), logged | {"target_entropy": _entropy(class_targets)}

    def course(self, course: Course, step: int) -> float:
        """A value that changes with the step."""
        return course.at(step, steps_per_epoch=self._steps_per_epoch, steps=self._steps)

    @torch.no_grad()
    def hold_prototypes(self, step: int) -> None:
        """In the first epochs the heads' last layers get no gradient; called after the backward pass."""
        if step < self.settings.freeze_last_layer_epochs * self._steps_per_epoch:
            for head in (self.student.dino_head, self.student.ibot_head):
                head.last_layer.weight.grad = None

    @torch.no_grad()
    def move_teacher(self, step: int) -> None:
        """The teacher follows the student, and now and then the Gram teacher the teacher; called after every step."""
        share = 1 - self.course(self.settings.momentum, step)
        for own, other in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            own.lerp_(other, share)
        if self.gram is not None and self.settings.gram.refreshes_after(step):
            self.gram.load_state_dict(self.teacher.backbone.state_dict())

    @property
    def _small_count(self) -> int:
        return self.settings.views.small_count

    @torch.no_grad()
    def _targets(self, large: Tensor, hidden: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The teacher's distributions for the class tokens (2, B, K) and for the hidden patches (M, K)."""
        warmth = self.settings.teacher_temperature
        steps = round(warmth.warmup_epochs * self._steps_per_epoch)
        temperature = even_rise(step, warmth.start, warmth.end, steps=steps)
        seen = self.teacher.backbone.features(large)
        classes = sinkhorn(self.teacher.dino_head(seen["class"]), temperature)
        patches = sinkhorn(self.teacher.ibot_head(seen["patches"].flatten(0, 1)[hidden]), temperature)
        return classes.unflatten(0, (GLOBAL_CROPS, -1)), patches

    def _gram_part(self, batch: Mapping[str, Tensor], large: Tensor, tokens: Tensor) -> Tensor:
        """The student's patch tokens (2B, N, C) against the Gram teacher's of the larger, undistorted crops."""
        crops = _views_first(batch["gram"] if "gram" in batch else batch["large"])
        crops = crops.expand(-1, large.shape[1], -1, -1)
        with torch.no_grad():
            anchors = self.gram.features(crops)["patches"]
            grids = [(view.shape[-2] // PATCH, view.shape[-1] // PATCH) for view in (crops, large)]
            anchors = resize_tokens(anchors, *grids)
        return gram_loss(tokens, anchors, per_image=self.settings.gram.per_image)

    def _total(self, parts: Mapping[str, Tensor], step: int) -> Tensor:
        """The weighted sum: every pair of crops counts the same, 2 pairs of large ones, 2 n with small ones."""
        large_pairs, small_pairs = GLOBAL_CROPS * (GLOBAL_CROPS - 1), GLOBAL_CROPS * self._small_count
        pairs = large_pairs + small_pairs
        local = self.course(self.settings.local_weight, step) * small_pairs / pairs
        total = parts["dino_global"] * (large_pairs / pairs) + parts["dino_local"] * local
        total = total + self.settings.ibot_weight * parts["ibot"] + self.settings.koleo_weight * parts["koleo"]
        if "gram" in parts:
            total = total + self.course(self.settings.gram.weight, step) * parts["gram"]
        return total


def _frozen(module: nn.Module) -> nn.Module:
    return module.requires_grad_(False).eval()


def _entropy(targets: Tensor) -> Tensor:
    """Mean entropy of distributions (..., K) over log K."""
    return torch.special.entr(targets).sum(dim=-1).mean() / math.log(targets.shape[-1])


def _views_first(samples: Tensor) -> Tensor:
    """(B, V, ...) -> (V B, ...): all first views, then all second ones."""
    return samples.transpose(0, 1).flatten(0, 1)
