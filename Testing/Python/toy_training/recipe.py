# SPDX-License-Identifier: Apache-2.0
"""Recipes of the toy task as plain values."""

import copy

TEXTS = {"title": "Toy", "training_data": "numbers", "licence": "Apache-2.0", "citation": "none"}
STAGE = {
    "name": "only",
    "task": "toy",
    "settings": {},
    "network": {"architecture": "toy"},
    "data": [{"layout": "phantoms", "options": {"count": 6}}],
    "split": {"rule": "nnunet", "folds": 3, "seed": 12345, "test_share": 0.2},
    "optimiser": {"learning_rate": 1e-2, "weight_decay": 0.0},
    "schedule": {"epochs": 4, "steps_per_epoch": 10, "decay": "cosine"},
    "loop": {"batch_size": 8, "save_steps": 7},
    "selection": {"keep": "best", "metric": "error", "higher_is_better": False},
}


def toy_recipe(*stages, **chain):
    """A recipe with these stages (changes to STAGE, "a.b" for nested keys), by default one."""
    return {
        "name": "toy",
        "texts": TEXTS,
        "seed": 3,
        "stages": [changed(STAGE, **stage) for stage in stages or ({},)],
        **chain,
    }


def changed(values, **changes):
    """A deep copy with values replaced; "loop.ema" (as a keyword: `**{"loop.ema": 0.9}`) replaces a nested one."""
    values = copy.deepcopy(values)
    for place, value in changes.items():
        *above, last = place.split(".")
        inner = values
        for key in above:
            inner = inner.setdefault(key, {})
        inner[last] = value
    return values
