"""The description of a format: its events as patterns."""

from __future__ import annotations

from dataclasses import dataclass

from coalesced.tools.traces.events import Kind


@dataclass(frozen=True)
class Format:
    """`patterns`: (kind, beginning of the event, rest with fields), as fields.h matches them.

    Patterns that begin alike are adjacent; the first that matches counts. `handler_calls`: a
    line is a call of a device's handler, not an access of the guest.
    """

    name: str
    expected: str  # the line that makes a file one of this format
    record: str  # the command that records it
    patterns: tuple[tuple[Kind, str, str], ...]
    handler_calls: bool = False
