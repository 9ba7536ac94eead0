"""Writes values as JSON: the members of a dataclass are its fields."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

INLINE: Mapping[str, bool] = {"inline": True}
"""Metadata of a field whose members are members of the surrounding JSON object; None: of none.

The field holds a dataclass, or a mapping of names to values.
"""

OPTIONAL: Mapping[str, bool] = {"optional": True}
"""Metadata of a field that the JSON object does not have when it is None."""

HIDDEN: Mapping[str, bool] = {"hidden": True}
"""Metadata of a field that the JSON object does not have."""


def print_json(result: object) -> None:
    """Write one object to stdout."""
    sys.stdout.write(json_text(result, indent=2) + "\n")


def json_text(result: object, indent: int | None = None) -> str:
    """A value as JSON; a dataclass is written as `members` has it."""
    return json.dumps(result, indent=indent, default=members)


def members(value: Any) -> dict[str, object]:
    """The JSON members of a dataclass, see INLINE, OPTIONAL and HIDDEN; of a mapping, its own."""
    if isinstance(value, Mapping):
        return dict(value)
    found: dict[str, object] = {}
    for each in fields(value):
        content = getattr(value, each.name)
        if each.metadata.get("inline"):
            found |= {} if content is None else members(content)
        elif each.metadata.get("hidden"):
            continue
        elif content is not None or not each.metadata.get("optional"):
            found[each.name] = content
    return found
