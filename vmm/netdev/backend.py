"""The common part of back ends: frames wait for a busy card, and all are counted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from coalesced.devices.bus.device import Card, Wire
from coalesced.vmm.netdev.delivery import Delivery
from coalesced.vmm.netdev.host import Host, Recorder
from coalesced.vmm.netdev.spec import Spec

FRAME_MAX: Final = 4096 + 65536  # bytes; QEMU's NET_BUFSIZE
BATCH: Final = 64  # frames that are read at once, about
_ROUNDS: Final = 8  # batches until the guest's exits have their turn


@dataclass(frozen=True)
class NetdevReport:
    """The counters of one back end, as the JSON object of a command has them."""

    kind: str
    sent: int
    sent_bytes: int
    received: int
    received_bytes: int
    dropped: int
    dropped_by: Mapping[str, int]


@dataclass(slots=True)
class Statistics:
    """Frames of one back end since its start."""

    sent: int = 0  # by the card
    sent_bytes: int = 0
    received: int = 0  # by the card
    received_bytes: int = 0
    dropped_by: Counter[str] = field(default_factory=Counter)  # by reason

    def dropped(self, reason: str, count: int = 1) -> None:
        """Count lost frames."""
        if count:
            self.dropped_by[reason] += count

    def report(self, kind: str) -> NetdevReport:
        """The counters so far, of a back end of that kind."""
        return NetdevReport(
            kind,
            self.sent,
            self.sent_bytes,
            self.received,
            self.received_bytes,
            self.dropped_by.total(),
            dict(self.dropped_by),
        )


class Netdev(Wire, Protocol):
    """A wire made from a SPEC, for one card or one port of a hub."""

    recorder: Recorder | None  # records the wire's frames

    def connect(self, card: Card) -> None:
        """Plug the card in, once."""

    def report(self) -> NetdevReport:
        """Its counters so far."""

    def close(self) -> None:
        """Give everything back; may be called twice."""


class Backend(ABC):
    """A wire that ends in a descriptor of the host system.

    A kind says how frames get out (`_transmit`) and in (`_read`), and when to look (`_watch`).
    While the card cannot receive nothing is read: frames wait where the host system keeps them,
    and the card is asked again and again.
    """

    def __init__(self, host: Host, spec: Spec) -> None:
        self.kind = spec.kind
        self.name = spec.id
        self.statistics = Statistics()
        self.host = host
        self.recorder = host.recorder
        self._card: Card | None = None
        self._waiting: list[bytes] = []  # read, and not yet taken by the card
        self.reading = False
        self._delivery = Delivery(host, self._deliver)

    # --- for a kind to define ---

    @abstractmethod
    def _transmit(self, frames: Sequence[bytes]) -> int:
        """Send frames; how many were sent or dropped.

        After fewer than all, call `resume` once there is room.
        """

    @abstractmethod
    def _read(self) -> list[bytes]:
        """Frames that have arrived, `BATCH` or so; none does not wait for one."""

    @abstractmethod
    def _watch(self, wanted: bool) -> None:
        """Call `readable` when frames arrive, or stop doing so; called with changes only."""

    # --- the card's side ---

    def connect(self, card: Card) -> None:
        assert self._card is None
        self._card = card
        self._set_reading(True)

    def send(self, frames: Sequence[bytes]) -> int:
        taken = self._transmit(frames)
        if self.recorder is not None and taken:
            self.recorder.record(frames[:taken])
        return taken

    def receive_ready(self, timer: bool = False) -> None:
        # While the back end is watched, the loop delivers what arrives.
        if self._waiting or not self.reading:
            # A card that handles a write has seen all earlier ones.
            self._deliver(asked=not timer)

    # --- the wire's side ---

    def readable(self) -> None:
        """Frames may have arrived: read and deliver them."""
        self._deliver()

    def sent(self, frames: Sequence[bytes]) -> None:
        """Count frames that went out."""
        self.statistics.sent += len(frames)
        self.statistics.sent_bytes += sum(map(len, frames))

    def resume(self) -> None:
        """There is room again for frames of the card."""
        if self._card is not None:
            self._card.resume_transmit()

    def report(self) -> NetdevReport:
        return self.statistics.report(self.kind)

    def close(self) -> None:
        """Give everything back; may be called twice. Frames that wait are lost, and counted."""
        self._set_reading(False)
        self._delivery.stop()
        self.statistics.dropped("not received before the end", len(self._waiting))
        self._waiting.clear()

    def _deliver(self, asked: bool = False) -> None:
        """Give the card the waiting frames that it takes; `asked`: it says that it can receive."""
        if self._delivery.running or self._card is None:
            return
        with self._delivery:
            self._set_reading(self._carry(self._card, asked))

    def _carry(self, card: Card, asked: bool) -> bool:
        """Read and hand over; False when the card takes no more."""
        rounds = _ROUNDS
        while self._waiting or rounds:
            rounds -= not self._waiting
            if not asked:
                self._delivery.flush(card)
            asked = False
            if not card.can_receive():
                return False
            # The socket held fewer frames than a batch; the loop reports later ones.
            last = not self._waiting
            if last:
                self._waiting = self._read()
                last = len(self._waiting) < BATCH
            if not self._waiting:
                break
            taken = card.receive(self._waiting)
            self._count(taken)
            if taken == 0:
                return False
            if last and not self._waiting:
                break
        return True

    def _count(self, taken: int) -> None:
        frames = self._waiting if taken == len(self._waiting) else self._waiting[:taken]
        self.statistics.received += taken
        self.statistics.received_bytes += sum(map(len, frames))
        if self.recorder is not None:
            self.recorder.record(frames)
        self._waiting = self._waiting[taken:]

    def _set_reading(self, wanted: bool) -> None:
        if wanted:
            self._delivery.stop()
        else:
            self._delivery.repeat_later()
        if wanted != self.reading:
            self.reading = wanted
            self._watch(wanted)
