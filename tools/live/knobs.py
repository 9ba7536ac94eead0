"""The messages by which a browser turns a knob, and what each may say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from coalesced.hv.abi import RING_PAGES_MAX
from coalesced.tools.live.keys import codes_of
from coalesced.tools.live.link import Message
from coalesced.tools.runs.options import Wait

Check = Callable[[Any], Any]


def _whole(least: int, most: int) -> Check:
    def check(value: object) -> int:
        if not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"expected {least} to {most}, got {value!r}")
        return value

    return check


def _one_of(offered: Sequence[object]) -> Check:
    def check(value: object) -> object:
        if value not in offered:
            raise ValueError(f"expected one of {offered}, got {value!r}")
        return value

    return check


RATES: Final = (1, 10, 100, 1000)
"""Accesses a second."""
STALENESS: Final = (None, 1, 10, 100, 1000)
"""Milliseconds."""

_MEMBERS: Final[Mapping[str, Mapping[str, Check]]] = {
    "run": {},
    "pause": {},
    "step": {"count": _whole(1, 1000)},
    "speed": {"rate": _one_of(RATES)},
    "coalesce": {"region": str, "on": bool},
    "staleness": {"ms": _one_of(STALENESS)},
    "drain": {},
    "keep": {"on": bool},
    "quit": {},
    "again": {"pages": _whole(1, RING_PAGES_MAX), "wait": Wait},
}


def checked(message: Message) -> Message:
    """The request to the VMM for a browser's message. Raises ValueError, KeyError, TypeError."""
    do = message.get("do", "")
    if do == "key":
        return {"do": do, "codes": codes_of(message["code"], message["down"])}
    if do not in _MEMBERS:
        raise ValueError(f"no such message: {do!r}")
    return {"do": do, **{name: check(message[name]) for name, check in _MEMBERS[do].items()}}
