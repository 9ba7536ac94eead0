"""Services of a machine for its back ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from coalesced.devices.bus.device import Card
from coalesced.vmm.loop import Loop


class Recorder(Protocol):
    """Records frames."""

    def record(self, frames: Sequence[bytes]) -> None:
        """Record frames that pass now."""


@dataclass
class Host:
    """Services of the machine for its back ends.

    `flush` brings writes of the guest that are queued to a card: one that was given buffers by one
    of them can receive. `warn` takes a line for the user.
    """

    loop: Loop
    flush: Callable[[Card], object] = lambda _card: None
    warn: Callable[[str], None] = lambda _line: None
    recorder: Recorder | None = None
