# SPDX-License-Identifier: Apache-2.0
"""What made a node, kept in the node's attributes and so in every saved scene."""

import json
import math
from collections.abc import Mapping
from typing import Any

PREFIX = "ProstateXfer."


def setProvenance(node, record: Mapping[str, Any]) -> None:
    """Write one attribute "ProstateXfer.<key>" an entry, instead of those that are there.

    Texts are stored as they are, everything else as JSON; what JSON does not know (a path, a date) becomes text.
    """
    wasModifying = node.StartModify()
    for name in _names(node):
        node.RemoveAttribute(name)
    for key, value in record.items():
        node.SetAttribute(f"{PREFIX}{key}", _text(value))
    node.EndModify(wasModifying)


def provenanceOf(node) -> dict[str, Any]:
    """What `setProvenance` wrote, with tuples as lists; empty for a node that no run has made."""
    return {name.removeprefix(PREFIX): _value(node.GetAttribute(name)) for name in _names(node)}


def _names(node) -> list[str]:
    return sorted(name for name in node.GetAttributeNames() if name.startswith(PREFIX))


def _text(value: Any) -> str:
    """The text of an attribute: a text that could be taken for JSON is quoted, so that "1" does not come back as 1."""
    if isinstance(value, str) and _value(value) == value:
        return value
    return json.dumps(_plain(value), ensure_ascii=False)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _plain(value: Any) -> Any:
    """The value in JSON's own types; numbers that are none (NaN, infinity) are missing."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    return _plain(value.item()) if hasattr(value, "item") else str(value)
