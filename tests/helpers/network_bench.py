"""Back ends with fake cards on one loop, and waiting for what they do."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from coalesced.vmm.loop import Loop
from coalesced.vmm.netdev.host import Host
from coalesced.vmm.netdev.network import Network
from helpers.network_cards import FakeCard

CardT = TypeVar("CardT", bound=FakeCard)
LIMIT = 60  # seconds; nothing here takes that long


class Bench:
    """A loop, back ends by their SPECs, and a card in each that is asked for one."""

    def __init__(self, pcap: Path | None = None) -> None:
        self.loop = Loop()
        self.lines: list[str] = []
        self.flushes = 0
        self.on_flush: Callable[[], object] = lambda: None
        self.network = Network(Host(self.loop, self._flush, self.lines.append))
        if pcap is not None:
            self.network.record(pcap)

    def add(self, *specs: str) -> None:
        """Make back ends."""
        for spec in specs:
            self.network.add(spec)

    def card(self, name: str, buffers: int = 1 << 30) -> FakeCard:
        """A card that is plugged into the back end of that id."""
        return self.plug(name, FakeCard(buffers))

    def plug(self, name: str, card: CardT) -> CardT:
        """Plug a card into the back end of that id; returns it."""
        wire = self.network.take(name, "card")
        card.connect(wire)
        wire.connect(card)
        return card

    def count(self, name: str, what: str) -> Any:
        """A number of a back end's report."""
        return getattr(self.network.report()[name], what)

    def until(self, done: Callable[[], object]) -> None:
        """Serve the loop until something has happened."""
        deadline = time.monotonic() + LIMIT
        while not done():
            assert time.monotonic() < deadline, self.network.report()
            timeout = self.loop.timeout()
            self.loop.wait(0.05 if timeout is None else min(timeout, 0.05))
            self.loop.run_timers()

    def settle(self) -> None:
        """Serve whatever is ready now, a few times over."""
        for _ in range(10):
            self.loop.serve()

    def _flush(self, _card: object) -> None:
        self.flushes += 1
        self.on_flush()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.network.close()
        assert not self.loop.watching, "a descriptor is watched after the end"
        self.loop.close()


def free_ports(count: int, kind: socket.SocketKind = socket.SOCK_DGRAM) -> list[int]:
    """Ports of 127.0.0.1 that nobody has now."""
    socks = [socket.socket(socket.AF_INET, kind) for _ in range(count)]
    try:
        for sock in socks:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in socks]
    finally:
        for sock in socks:
            sock.close()
