# SPDX-License-Identifier: Apache-2.0
"""Recipe files: where they lie, their YAML read safely, and the recipe that one is based on merged into it."""

import re
from collections import Counter
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ProstateXferLib.errors import ProstateXferError

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
SUFFIX = ".yaml"
# YAML 1.1 wants a point in a number with an exponent, so that `1e-4` would be a text.
_EXPONENT_WITHOUT_POINT = re.compile(r"[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$")


def recipe_names() -> tuple[str, ...]:
    """Names of the recipes that come with ProstateXfer: paths below training/recipes without the ending."""
    paths = sorted(path.relative_to(RECIPES).with_suffix("") for path in RECIPES.glob(f"*/**/*{SUFFIX}"))
    return tuple(path.as_posix() for path in paths)


def find_recipe(path_or_name: str | Path, *, beside: Path | None = None) -> Path:
    """The file of a recipe.

    Args:
        path_or_name: a YAML file; a name ("mr_dinov3/frozen"); or the last part of one where only one recipe has it.
        beside: a folder in which a path may start besides the current one.

    Raises:
        ProstateXferError: there is no such recipe, or several with that last part.
    """
    wanted = str(path_or_name)
    for folder in (Path(), beside):
        if folder is not None and (folder / wanted).is_file():
            return folder / wanted
    if wanted in recipe_names():
        return RECIPES / f"{wanted}{SUFFIX}"
    same_stem = [name for name in recipe_names() if name.rpartition("/")[2] == wanted]
    if len(same_stem) == 1:
        return RECIPES / f"{same_stem[0]}{SUFFIX}"
    if same_stem:
        raise ProstateXferError(f"There are several recipes '{wanted}': say which of {', '.join(same_stem)}.")
    close = get_close_matches(wanted, recipe_names(), n=1)
    known = f"did you mean '{close[0]}'?" if close else f"give a YAML file or one of {', '.join(recipe_names())}."
    raise ProstateXferError(f"There is no recipe '{wanted}': {known}")


def read_merged(path: Path, *, _above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The mapping in a recipe file, merged over that of its `base`, and so on downwards.

    Mappings are merged key by key; stages are matched by name and merged, new ones appended; every other value stands
    instead of the base's. The settings of a stage whose task changes are not merged but stand alone. `without: [NAME]`
    leaves stages of the base out.

    Raises:
        ProstateXferError: a file cannot be read, is no valid YAML, has a key twice, is based on itself, or leaves out a
            stage that its base does not have.
    """
    path = path.resolve()
    if path in _above:
        raise ProstateXferError(f"The recipe '{path.name}' is based on itself: change its key 'base'.")
    values = read_yaml(path)
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ProstateXferError(f"{path.name}: base must be a recipe's path or name, not {base!r}.")
    below = read_merged(find_recipe(base, beside=path.parent), _above=(*_above, path))
    return _merge(_shortened(below, values.pop("without", []), where=path.name), values)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, as plain values; nothing in it is executed.

    Raises:
        ProstateXferError: it cannot be read, is no valid YAML, is no mapping, or has a key twice.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ProstateXferError(f"The recipe '{path}' cannot be read ({error.strerror}): check the path.") from error
    except UnicodeDecodeError as error:
        raise ProstateXferError(f"The recipe '{path.name}' is not UTF-8 text ({error.reason}): correct it.") from error
    values = parse_yaml(text, what=f"The recipe '{path.name}'")
    if not isinstance(values, dict):
        raise ProstateXferError(f"The recipe '{path.name}' must be a mapping of keys to values: correct it.")
    return values


def parse_yaml(text: str, *, what: str) -> Any:
    """The plain value of a YAML text, with `1e-4` as a number; `what` begins the sentence if it is none.

    Raises:
        ProstateXferError: no valid YAML, or a key twice in one mapping.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
            counts = Counter(key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge")
            twice = [key for key, count in counts.items() if count > 1]
            if twice:
                line = node.start_mark.line + 1
                raise ProstateXferError(f"{what} has the key '{twice[0]}' twice (from line {line}): remove one.")
            return super().construct_mapping(node, deep)

    Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT_WITHOUT_POINT, list("-+0123456789"))
    try:
        return yaml.load(text, Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ProstateXferError(f"{what} is not valid YAML ({' '.join(str(error).split())}): correct it.") from error


def _shortened(below: dict[str, Any], without: Any, *, where: str) -> dict[str, Any]:
    """The base without these stages."""
    stages = below.get("stages", [])
    names = [stage.get("name") for stage in stages] if all(isinstance(stage, dict) for stage in stages) else []
    if not isinstance(without, list) or any(name not in names for name in without):
        known = ", ".join(map(str, names))
        raise ProstateXferError(f"{where}: without takes a list of its base's stages ({known}), not {without!r}.")
    return below | {"stages": [stage for stage in stages if stage.get("name") not in without]} if without else below


def _merge(below: Any, above: Any, key: str = "") -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        changed_task = "task" in above and above["task"] != below.get("task")
        merged = dict(below)
        for name, value in above.items():
            alone = name not in below or (changed_task and name == "settings")
            merged[name] = value if alone else _merge(below[name], value, name)
        return merged
    if key == "stages" and isinstance(below, list) and isinstance(above, list):
        return _merge_stages(below, above)
    return above


def _merge_stages(below: list, above: list) -> list:
    merged = list(below)
    places = {stage.get("name"): place for place, stage in enumerate(below) if isinstance(stage, dict)}
    for stage in above:
        place = places.get(stage.get("name")) if isinstance(stage, dict) else None
        if place is None:
            merged.append(stage)
        else:
            merged[place] = _merge(merged[place], stage)
    return merged
