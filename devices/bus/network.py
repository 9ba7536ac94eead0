"""Between a network card and its wire. Frames are Ethernet's, without the frame check sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Wire(Protocol):
    """The network side of a card; implemented by a network back end."""

    def send(self, frames: Sequence[bytes]) -> int:
        """Send frames in order; how many were taken, 0 to all.

        After fewer than all the wire is full; it calls the card's `resume_transmit` when it has
        room again.
        """

    def receive_ready(self, timer: bool = False) -> None:
        """The card can receive again: whatever waits for it may come, also before this returns.

        `timer`: the card says so of its own accord, not because the guest wrote a register, so that
        earlier writes of the guest may still be on their way to it.
        """


class Card(Protocol):
    """A network card, as its wire sees it."""

    def can_receive(self) -> bool:
        """Whether `receive` would take a frame now; if not, `receive_ready` is called later."""

    def receive(self, frames: Sequence[bytes]) -> int:
        """Take frames from the wire, in order; how many were taken, 0 to all.

        Those that were not must be offered again. A frame that the card drops (no address filter
        matches, no room) counts as taken: the card's own statistics tell of it.
        """

    def resume_transmit(self) -> None:
        """The wire has room again."""
