"""A process that sends entries through a channel to this one, one or a batch per call."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from coalesced.tools.bench import host
from coalesced.tools.bench.spawn import NotReady, Spawned

if TYPE_CHECKING:
    from coalesced.tools.bench.spawn import Control

ENTRY = bytes(24)

GRACE = 2.0  # seconds that the other process has to end by itself
PAUSE_NS = 50_000  # between two calls whose latency is measured

Send = Callable[[], object]  # sends a batch


class Unavailable(Exception):
    """This machine has no such channel; the text is the reason."""


class Channel(Protocol):
    """A channel between two processes. Creating one raises Unavailable if there is none."""

    name: ClassVar[str]
    batches: ClassVar[str]  # how a call carries several entries
    passed: Any  # from which the other process makes its end
    batch: int  # entries per call, of either side

    def __init__(self, batch: int = 1) -> None: ...

    @staticmethod
    def sender(passed: Any, batch: int) -> Send:
        """In the other process: the function that sends `batch` entries in one call."""

    def receive(self, entries: int) -> None:
        """Take that many entries, a multiple of the batch."""

    def close(self) -> None:
        """Release everything; the other process has ended."""


class Order(NamedTuple):
    """The work of the other process: its calls, with a pause of `pause_ns` before each.

    With a pause it keeps the time of each call, which an order of no calls asks for.
    """

    calls: int
    pause_ns: int = 0


class Peer:
    """The other process of a channel, and this end of it."""

    def __init__(self, channel: Channel, cpus: tuple[int, int]) -> None:
        """`cpus`: this process's, the other one's. The channel is this object's to close.

        Raises Unavailable when the other process cannot open the channel.
        """
        self._channel = channel
        self._cpu = cpus[0]
        try:
            self._other = Spawned(_produce, channel.sender, channel.passed, channel.batch, cpus[1])
        except NotReady:
            channel.close()
            raise Unavailable("its other process ended") from None
        except BaseException:
            channel.close()
            raise

    def measure(self, calls: int) -> float:
        """Nanoseconds per entry, sent and received."""
        entries = calls * self._channel.batch
        with host.on_cpu(self._cpu):
            started: int = self._other.ask(Order(calls))
            self._channel.receive(entries)
            return (time.monotonic_ns() - started) / entries

    def latencies(self, calls: int) -> NDArray[np.int64]:
        """Nanoseconds of single calls, from the start of sending to the end of receiving."""
        receive, batch, now = self._channel.receive, self._channel.batch, time.monotonic_ns
        with host.on_cpu(self._cpu):
            self._other.ask(Order(calls, PAUSE_NS))
            received = []
            for _ in range(calls):
                receive(batch)
                received.append(now())
            sent: list[int] = self._other.ask(Order(0))
        return np.array(received, np.int64) - np.array(sent, np.int64)

    def close(self) -> None:
        """Let the other process end, so that it releases its channel; kill it after GRACE."""
        self._other.close(GRACE)
        self._channel.close()


def _produce(
    sender: Callable[[Any, int], Send], passed: Any, batch: int, cpu: int, control: Control
) -> None:
    """Main of the other process: carry out orders, until the pipe closes."""
    os.sched_setaffinity(0, {cpu})
    send = sender(passed, batch)
    control.send("ready")
    sent: list[int] = []
    while True:
        try:
            order: Order = control.recv()
        except EOFError:
            return
        control.send(time.monotonic_ns() if order.calls else sent)
        if order.pause_ns:
            sent = _send_slowly(send, order)
        else:
            for _ in range(order.calls):
                send()


def _send_slowly(send: Send, order: Order) -> list[int]:
    """The times before each call. The pauses look at the clock: a sleep would lose the CPU."""
    times, now = [], time.monotonic_ns
    for _ in range(order.calls):
        due = now() + order.pause_ns
        while (at := now()) < due:
            pass
        times.append(at)
        send()
    return times
