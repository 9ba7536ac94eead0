"""A process that sends entries through a channel to this one, one per call."""

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
    """This machine has no such channel; the text is the reason."""


class Channel(Protocol):
    """A channel between two processes. Creating one raises Unavailable if there is none."""

    name: ClassVar[str]
    passed: Any  # from which the other process makes its end

    @staticmethod
    def sender(passed: Any) -> Send:
        """In the other process: the function that sends one entry."""

    def receive(self, entries: int) -> None:
        """Take that many entries."""

    def close(self) -> None:
        """Release everything; the other process has ended."""


class Peer:
    """The other process of a channel, and this end of it."""

    def __init__(self, channel: Channel, cpus: tuple[int, int]) -> None:
        """`cpus`: this process's, the other one's. The channel is this object's to close.

        Raises Unavailable when the other process cannot open the channel.
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
        """Let the other process end, so that it releases its channel; kill it after GRACE."""
        self._other.close(GRACE)
        self._channel.close()


def _produce(sender: Callable[[Any], Send], passed: Any, cpu: int, control: Control) -> None:
    """Main of the other process: send the requested number of entries, until the pipe closes."""
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
