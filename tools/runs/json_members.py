"""Writes values as JSON: the members of a dataclass are its fields."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

INLINE: Mapping[str, bool] = {"inline": True}
"""Metadata of a field whose members are members of the surrounding JSON object; None: of none."""

OPTIONAL: Mapping[str, bool] = {"optional": True}
"""Metadata of a field that the JSON object does not have when it is None."""


def print_json(result: object) -> None:
    """Write one object to stdout; a dataclass is written as `members` has it."""
    sys.stdout.write(json.dumps(result, indent=2, default=members) + "\n")


def members(value: Any) -> dict[str, object]:
    """The JSON members of a dataclass, see INLINE and OPTIONAL."""
    found: dict[str, object] = {}
    for each in fields(value):
        content = getattr(value, each.name)
        if each.metadata.get("inline"):
            found |= {} if content is None else members(content)
        elif content is not None or not each.metadata.get("optional"):
            found[each.name] = content
    return found
