"""Cards without hardware behind them, for the tests of network back ends."""

from __future__ import annotations

from collections.abc import Sequence

from coalesced.devices.bus.device import Wire


class FakeCard:
    """Takes as many frames as it has buffers, and keeps what it could not send."""

    def __init__(self, buffers: int = 1 << 30) -> None:
        self.buffers = buffers
        self.received: list[bytes] = []
        self.unsent: list[bytes] = []
        self.wire: Wire | None = None

    def connect(self, wire: Wire) -> None:
        self.wire = wire

    def send(self, *frames: bytes) -> None:
        """Send frames, behind what could not be sent before."""
        self.unsent += frames
        self.resume_transmit()

    def refill(self, buffers: int) -> None:
        """Give it buffers for more frames."""
        self.buffers += buffers
        assert self.wire is not None
        self.wire.receive_ready()

    def can_receive(self) -> bool:
        return self.buffers > 0

    def receive(self, frames: Sequence[bytes]) -> int:
        taken = min(len(frames), self.buffers)
        self.received += frames[:taken]
        self.buffers -= taken
        return taken

    def resume_transmit(self) -> None:
        assert self.wire is not None
        while self.unsent and (taken := self.wire.send(self.unsent)):
            del self.unsent[:taken]


class BriefCard(FakeCard):
    """Takes a frame only while it says that it can receive, as the e1000 in QEMU 7.2."""

    def __init__(self) -> None:
        super().__init__(0)

    def ask(self) -> None:
        """Be ready for one frame, for the length of this call."""
        self.refill(1)
        self.buffers = 0
