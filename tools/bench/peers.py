"""A process that sends entries through a channel, and this one that receives them, one per call."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from coalesced.tools.bench import host
from coalesced.tools.bench.spawn import NotReady, Spawned

if TYPE_CHECKING:
    from coalesced.tools.bench.spawn import Control

ENTRY = bytes(24)

GRACE = 2.0  # seconds that the other process has to end by itself

Send = Callable[[], object]  # sends one entry


class Unavailable(Exception):
    """This machine has no such channel; says why."""


class Channel(Protocol):
    """One way between two processes. Creating one raises Unavailable where it does not exist."""

    name: ClassVar[str]
    passed: Any  # what the other process makes its end of

    @staticmethod
    def sender(passed: Any) -> Send:
        """In the other process: what sends one entry."""

    def receive(self, entries: int) -> None:
        """Take that many entries."""

    def close(self) -> None:
        """Give everything back; the other process has ended."""


class Peer:
    """The other process of a channel, and this end of it."""

    def __init__(self, channel: Channel, cpus: tuple[int, int]) -> None:
        """`cpus`: this process's, the other one's. The channel is this object's to close.

        Raises Unavailable when the other process finds none.
        """
        self._channel = channel
        self._cpu = cpus[0]
        try:
            self._other = Spawned(_produce, channel.sender, channel.passed, cpus[1])
        except NotReady:
            channel.close()
            raise Unavailable("its other process ended") from None
        except BaseException:
            channel.close()
            raise

    def measure(self, entries: int) -> float:
        """Nanoseconds per entry, sent and received."""
        with host.on_cpu(self._cpu):
            started: int = self._other.ask(entries)
            self._channel.receive(entries)
            return (time.monotonic_ns() - started) / entries

    def close(self) -> None:
        """End the other process: by itself, so that nothing of its channel stays, or killed."""
        self._other.close(GRACE)
        self._channel.close()


def _produce(sender: Callable[[Any], Send], passed: Any, cpu: int, control: Control) -> None:
    """Main of the other process: send as many entries as are asked for, until nobody asks."""
    os.sched_setaffinity(0, {cpu})
    send = sender(passed)
    control.send("ready")
    while True:
        try:
            entries: int = control.recv()
        except EOFError:
            return
        control.send(time.monotonic_ns())
        for _ in range(entries):
            send()
