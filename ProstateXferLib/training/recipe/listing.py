# SPDX-License-Identifier: Apache-2.0
"""A recipe as text for `train --dry-run`: every value, and what was found of its data and its network."""

from collections.abc import Mapping, Sequence
from typing import Any

from ProstateXferLib.training.recipe.reading import resolved
from ProstateXferLib.training.recipe.schema import Chain


def recipe_text(chain: Chain) -> str:
    """The resolved recipe as YAML that `read_recipe` reads back."""
    import yaml

    return yaml.safe_dump(resolved(chain), sort_keys=False, allow_unicode=True, width=120)


def outline_text(outlines: Sequence[Mapping[str, Any]]) -> str:
    """What `training.outline.outline_chain` found, stage by stage."""
    return "\n".join(line for outline in outlines for line in _stage_lines(outline))


def _stage_lines(outline: Mapping[str, Any]) -> list[str]:
    lines = [f"Stage {outline['stage']}"]
    for source in outline["sources"]:
        use = "scores only" if source["test_only"] else f"weight {source['weight']:g}"
        lines.append(f"  {source['layout']} {source['path'] or '-'}: {source['cases']} case(s), {use}")
    sides = ", ".join(f"{side} {count}" for side, count in outline["split"].items())
    lines.append(f"  split: {sides}")
    if outline["steps_per_epoch"] is None:
        lines.append("  steps: each epoch is one pass over the data, counted when they have been prepared")
    else:
        lines.append(f"  steps: {outline['total_steps']}, {outline['steps_per_epoch']} an epoch")
    if outline["parameters"] is None:
        lines.append("  parameters: known when the stage that this one starts from has been trained")
    for group in outline["parameters"] or ():
        low, high = group["factor"]
        rate = (
            "frozen"
            if group["frozen"]
            else f"trained, learning rate x {low:g}" + (f" to {high:g}" if low < high else "")
        )
        lines.append(f"  parameters {group['group']}: {group['parameters']:,} {rate}")
    return lines
