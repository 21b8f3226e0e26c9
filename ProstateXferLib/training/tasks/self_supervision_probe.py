# SPDX-License-Identifier: Apache-2.0
"""How good tokens are that nobody has labelled anything for: are they spread, do they tell organs apart?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ProstateXferLib.networks.dinov3 import PATCH, DINOv3

_TEMPERATURE = 0.07
"""Of the neighbours' votes, as in DINO's k-NN evaluation (arXiv 2104.14294)."""
_ROWS = 512


@dataclass(frozen=True)
class ProbedCase:
    """Patches of some slices of one case.

    Attributes:
        patient_id: neighbours are looked for among other patients only.
        tokens: (n, C) normed patch tokens.
        inside: (n,) bool, whether more than half of the patch lies in the structure.
    """

    patient_id: str
    tokens: Tensor
    inside: Tensor


@torch.no_grad()
def slice_tokens(backbone: DINOv3, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Class token (C,) and patch tokens (n, C) of a standardised slice (H, W), on the CPU; padded to whole patches."""
    weight = backbone.patch_embed.proj.weight
    image = _padded(pixels)[None, None].expand(1, weight.shape[1], -1, -1).to(weight.device)
    seen = backbone.features(image)
    return seen["class"][0].float().cpu(), seen["patches"][0].float().cpu()


def patches_inside(mask: Tensor) -> Tensor:
    """Mask (H, W) bool -> (n,) bool: patches, row by row, of which more than half lies inside."""
    return (F.avg_pool2d(_padded(mask.float())[None, None], PATCH) > 0.5).flatten()


def spread(tokens: Tensor) -> float:
    """Standard deviation of unit tokens (n, C) over the samples, times sqrt(C): near 1 when they point everywhere, 0
    when all are one (collapse)."""
    return float(F.normalize(tokens, dim=-1).std(dim=0).mean() * math.sqrt(tokens.shape[1]))


def effective_rank(tokens: Tensor) -> float:
    """In how many directions tokens (n, C) vary: exp of the entropy of their normalised singular values.

    Source: Roy and Vetterli, EUSIPCO 2007. 1 means along a line; the most is min(n - 1, C).
    """
    values = torch.linalg.svdvals(tokens.double() - tokens.double().mean(dim=0))
    shares = values[values > 0] / values.sum()
    return float(torch.exp(-(shares * shares.log()).sum())) if len(shares) else 0.0


def neighbour_scores(cases: Sequence[ProbedCase], neighbours: int) -> dict[str, float]:
    """How well the most similar patches of other patients tell every patch; means over the cases.

    Nothing is trained: it is the tokens' own order that is scored.

    Returns:
        "probe_dice", patches whose neighbours vote more for inside than for outside against those that are inside, and
        "probe_auc", how often a patch inside gets a larger share of votes than one outside (chance 0.5). Empty with
        fewer than two patients, or where no case has patches on both sides.
    """
    dice, auc = [], []
    for case in cases:
        others = [other for other in cases if other.patient_id != case.patient_id]
        if not others or not bool(case.inside.any()) or bool(case.inside.all()):
            continue
        bank = F.normalize(torch.cat([other.tokens for other in others]), dim=-1)
        answers = torch.cat([other.inside for other in others]).float()
        votes = _votes(F.normalize(case.tokens, dim=-1), bank, answers, min(neighbours, len(bank)))
        found = votes > 0.5
        dice.append(2 * float((found & case.inside).sum()) / float(found.sum() + case.inside.sum()))
        auc.append(_auc(votes[case.inside], votes[~case.inside]))
    return {"probe_dice": sum(dice) / len(dice), "probe_auc": sum(auc) / len(auc)} if dice else {}


def _auc(inside: Tensor, outside: Tensor) -> float:
    """Share of pairs in which the one inside has more votes; equal ones count half."""
    ordered = outside.sort().values
    below = torch.searchsorted(ordered, inside, right=False) + torch.searchsorted(ordered, inside, right=True)
    return float(below.double().mean() / (2 * len(outside)))


def _votes(tokens: Tensor, bank: Tensor, answers: Tensor, neighbours: int) -> Tensor:
    """Share of the neighbours' votes for inside, (n,), the nearer the weightier."""
    votes = []
    for rows in tokens.split(_ROWS):
        likeness, nearest = (rows @ bank.T).topk(neighbours, dim=1)
        weights = torch.softmax(likeness / _TEMPERATURE, dim=1)
        votes.append((weights * answers[nearest]).sum(dim=1))
    return torch.cat(votes)


def _padded(pixels: Tensor) -> Tensor:
    """(H, W) with zeros below and on the right up to whole patches; zero is the mean of a standardised slice."""
    return F.pad(pixels, (0, -pixels.shape[1] % PATCH, 0, -pixels.shape[0] % PATCH))
