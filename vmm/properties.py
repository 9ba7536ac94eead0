"""The properties of a SPEC, as QEMU's -device and -netdev take them."""

from __future__ import annotations

from collections.abc import Iterable


def parse_properties(words: Iterable[str]) -> dict[str, str]:
    """Names and values of words like `property=value`, each name once. Raises ValueError."""
    properties: dict[str, str] = {}
    for word in words:
        key, separator, value = word.partition("=")
        if not key or not separator:
            raise ValueError(f"expected property=value, got {word!r}")
        if key in properties:
            raise ValueError(f"property {key!r} is given twice")
        properties[key] = value
    return properties
