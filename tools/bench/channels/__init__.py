"""Channels between two Python processes, with entries of the ring's size."""

from __future__ import annotations

from coalesced.tools.bench.channels.memory import Iceoryx, LockedMemory, SharedRing
from coalesced.tools.bench.channels.queues import FasterFifo, Queue, Zmq
from coalesced.tools.bench.channels.streams import BarePipe, MessageQueue, Pipe, SocketPair
from coalesced.tools.bench.peers import Channel

RING: type[Channel] = SharedRing
PEERS: tuple[type[Channel], ...] = (
    BarePipe,
    SocketPair,
    MessageQueue,
    Pipe,
    Queue,
    LockedMemory,
    FasterFifo,
    Iceoryx,
    Zmq,
)
