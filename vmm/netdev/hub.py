"""Back end `hubport`: a port of a hub, which passes every frame on to all its other ports."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

from coalesced.devices.bus.device import Card
from coalesced.vmm.netdev.backend import Netdev, NetdevReport, Statistics
from coalesced.vmm.netdev.delivery import Delivery
from coalesced.vmm.netdev.host import Host, Recorder
from coalesced.vmm.netdev.spec import NetdevError, Spec

if TYPE_CHECKING:
    from coalesced.vmm.netdev.network import Network

_QUEUE: Final = 1024  # frames that wait at a port
_AT_ONCE: Final = 64  # frames handed out together
_HUBS: Final = 0x7FFF_FFFF


def create(spec: Spec, host: Host, network: Network) -> Port:
    """Make the back end of a `hubport` SPEC. Raises NetdevError."""
    number = spec.number("hubid", 0, _HUBS)
    if number is None:
        raise spec.wrong("expected hubid=")
    netdev = spec.take("netdev")
    spec.finish()
    hub = network.hub(number)
    if netdev is None:
        return Port(hub, host)
    try:
        wire = network.take(netdev, f"hubport {spec.id!r}")
        network.occupy(spec.id, f"netdev {netdev!r}")
        if isinstance(wire, Port):
            hub.join(wire.hub)
    except NetdevError as error:
        raise spec.wrong(str(error)) from error
    return Port(hub, host, wire)


class Hub:
    """Ports, and the frames between them.

    Frames wait at a port that takes none, and are lost when its queue is full; a sender has to wait
    only when all ports that its frame could go to are full.
    """

    def __init__(self, host: Host) -> None:
        self._ports: list[Port] = []
        self._held: list[Port] = []  # where senders wait
        self._loop = host.loop
        self._recorder = host.recorder
        self._joined = {self}  # hubs between which frames pass

    def join(self, other: Hub) -> None:
        """Let frames pass to another hub.

        Raises NetdevError when the two are joined already: a frame would circulate for ever.
        """
        if other in self._joined:
            raise NetdevError("its hub is already connected to this one")
        joined = self._joined | other._joined
        for hub in joined:
            hub._joined = joined

    def add(self, port: Port) -> None:
        """One more port."""
        self._ports.append(port)

    def has_room(self, source: Port) -> bool:
        """Whether a frame from there would be taken; if not, its sender is called later."""
        return self._room(source, 1) > 0

    def spread(self, source: Port, frames: Sequence[bytes]) -> int:
        """Pass frames on to all ports but where they came from; how many were taken."""
        taken = self._room(source, len(frames))
        if taken:
            frames = frames[:taken]
            if self._recorder is not None:
                self._recorder.record(frames)
            others = self._others(source)
            if not others:
                source.statistics.dropped("no other port", taken)
            for port in others:
                port.put(frames)
        return taken

    def emptied(self) -> None:
        """A port that was full has room again: resume the waiting senders soon."""
        # Not at once: one of them may be the sender of the very frames that have just gone out.
        if self._held:
            self._loop.call_at(0, self._go_on)

    def _go_on(self) -> None:
        held, self._held = self._held, []
        for port in held:
            port.go_on()

    def _others(self, source: Port) -> list[Port]:
        return [port for port in self._ports if port is not source and port.plugged]

    def _room(self, source: Port, wanted: int) -> int:
        others = self._others(source)
        room = min(wanted, max((port.room for port in others), default=wanted))
        if room < wanted and source not in self._held:
            self._held.append(source)
        return room


class Port:
    """To a card it is the wire, to a back end it is the card."""

    def __init__(self, hub: Hub, host: Host, netdev: Netdev | None = None) -> None:
        self.recorder: Recorder | None = None  # the hub's frames are recorded once, by the hub
        self.statistics = Statistics()
        self.hub = hub
        self._card: Card | None = None
        self._netdev = netdev
        self._queue: deque[bytes] = deque()
        self._delivery = Delivery(host, self._drain)
        hub.add(self)
        if netdev is not None:
            netdev.recorder = None
            netdev.connect(self)

    @property
    def plugged(self) -> bool:
        """Whether anything takes frames here."""
        return self._card is not None or self._netdev is not None

    @property
    def room(self) -> int:
        """The number of further frames that may wait here."""
        return _QUEUE - len(self._queue)

    # --- as the wire of a card ---

    def connect(self, card: Card) -> None:
        self._card = card

    def send(self, frames: Sequence[bytes]) -> int:
        return self._take(frames)

    def receive_ready(self, timer: bool = False) -> None:
        self._drain(asked=not timer)

    # --- as the card of a back end ---

    def can_receive(self) -> bool:
        return self.hub.has_room(self)

    def receive(self, frames: Sequence[bytes]) -> int:
        return self._take(frames)

    def resume_transmit(self) -> None:
        self._drain()

    # --- to and from the hub ---

    def _take(self, frames: Sequence[bytes]) -> int:
        taken = self.hub.spread(self, frames)
        self.statistics.sent += taken
        self.statistics.sent_bytes += sum(map(len, frames[:taken]))
        return taken

    def put(self, frames: Sequence[bytes]) -> None:
        """Frames of another port: pass them on, or let them wait."""
        room = self.room
        self._queue.extend(frames[:room])
        self.statistics.dropped("no room", len(frames) - min(room, len(frames)))
        self._drain()

    def go_on(self) -> None:
        """The hub has room again for what comes in here."""
        if self._card is not None:
            self._card.resume_transmit()
        elif self._netdev is not None:
            self._netdev.receive_ready()

    def _drain(self, asked: bool = False) -> None:
        """Hand out waiting frames, as far as they are taken; `asked`: the card has room again."""
        if self._delivery.running:
            return
        was_full = self.room == 0
        with self._delivery:
            while self._queue and (taken := self._hand_out(asked)):
                for _ in range(taken):
                    self._queue.popleft()
        if self._queue and self._card is not None:
            self._delivery.repeat_later()
        else:
            self._delivery.stop()
        if was_full and self.room:
            self.hub.emptied()

    def _hand_out(self, asked: bool) -> int:
        if self._card is not None and not asked:
            self._delivery.flush(self._card)
        frames = list(islice(self._queue, _AT_ONCE))
        if self._card is None:
            assert self._netdev is not None
            taken = self._netdev.send(frames)
        else:
            taken = self._card.receive(frames) if frames and self._card.can_receive() else 0
        self.statistics.received += taken
        self.statistics.received_bytes += sum(map(len, frames[:taken]))
        return taken

    # --- the end ---

    def report(self) -> NetdevReport:
        return self.statistics.report("hubport")

    def close(self) -> None:
        self._delivery.stop()
        self.statistics.dropped("not received before the end", len(self._queue))
        self._queue.clear()
