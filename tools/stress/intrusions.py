"""A third party that writes into the pipes and the control socket of a pair."""

from __future__ import annotations

import array
import os
import random
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from coalesced.hv import abi
from coalesced.tools.stress.segments import Segments

_MOST_BYTES = 100_000  # more than a pipe holds
_MOST_ROUNDS = 200
_MOST_SIGNALS = (1 << 64) - 2  # that an eventfd counts
_BUFFER_PAGES = (0, 1, 1, abi.RING_PAGES_MAX, 1 << 31)
_UNKNOWN = 0x7F00_0000  # no request has such a number
_KNOWN_RESULTS = (0, 1, 2, 12, -1, -22, -28, 1 << 31, (1 << 63) - 1, -(1 << 63))


@dataclass(frozen=True)
class Intrusion:
    """Data that a third party sends through a channel of the pair."""

    what: str
    data: bytes  # its content, for failure messages
    do: Callable[[Segments], None]

    def carry_out(self, segments: Segments) -> None:
        with suppress(OSError):  # a side may have ended, a pipe may be full
            self.do(segments)


def pipe(chance: random.Random, segments: Segments) -> Intrusion:
    """Unexpected bytes, bytes taken away, or a pipe that is full and blocks."""
    resumes = len(segments.channels) - 3
    name, index = chance.choice((("exit pipe", 0), ("resume pipe", 1 + chance.randrange(resumes))))
    size = int(_MOST_BYTES ** chance.random())
    rounds = int(_MOST_ROUNDS ** chance.random())

    def junk(segments: Segments) -> None:
        end = _end(segments.channels[index], os.O_WRONLY)
        try:
            for _ in range(rounds):
                os.write(end, bytes(size))
        finally:
            os.close(end)

    def steal(segments: Segments) -> None:
        end = _end(segments.channels[index], os.O_RDONLY)
        try:
            for _ in range(rounds):
                os.read(end, size)
        finally:
            os.close(end)

    def block(segments: Segments) -> None:
        os.set_blocking(segments.channels[index], True)
        junk(segments)

    kind, do = chance.choice((("junk", junk), ("theft", steal), ("block", block)))
    return Intrusion(f"{kind} of {size} bytes, {rounds} times: {name}", b"\0", do)


def clear(channels: Sequence[int]) -> None:
    """Empty the `Segments.channels` of a pair that has stopped, and let no pipe block."""
    for pipe in channels[:-2]:
        os.set_blocking(pipe, False)
        end = _end(pipe, os.O_RDONLY)
        with suppress(BlockingIOError):
            while os.read(end, _MOST_BYTES):
                pass
        os.close(end)
    for channel in channels[-2:]:
        with socket.socket(fileno=os.dup(channel)) as peer, suppress(BlockingIOError):
            while True:  # also behind a message of no bytes: both ends are open, this is no end
                peer.recv(_MOST_BYTES, socket.MSG_DONTWAIT)


def event(chance: random.Random, segments: Segments) -> Intrusion:
    """The descriptor of an own ring: signals, signals taken away, or one more than it can count and
    a descriptor that blocks."""
    number = chance.randrange(len(segments.events))
    rounds = int(_MOST_ROUNDS ** chance.random())
    count = chance.choice((1, _MOST_SIGNALS))

    def junk(segments: Segments) -> None:
        os.set_blocking(segments.events[number], False)  # the file is shared: one may have blocked
        for _ in range(rounds):
            with suppress(BlockingIOError):
                os.eventfd_write(segments.events[number], count)

    def steal(segments: Segments) -> None:
        os.set_blocking(segments.events[number], False)
        for _ in range(rounds):
            with suppress(BlockingIOError):
                os.eventfd_read(segments.events[number])

    def block(segments: Segments) -> None:
        junk(segments)
        os.set_blocking(segments.events[number], True)

    kind, do = chance.choice((("junk", junk), ("theft", steal), ("block", block)))
    return Intrusion(f"{kind} of {count}, {rounds} times: descriptor {number}", b"\0", do)


def _end(fd: int, access: int) -> int:
    return os.open(f"/proc/self/fd/{fd}", access | os.O_NONBLOCK)


def message(chance: random.Random, segments: Segments) -> Intrusion:
    """A request that does not exist, or one for a ring, or a reply to nothing; some with
    descriptors."""
    to_guest = chance.random() < 0.5
    if to_guest:
        head = abi.HV_REQUEST.pack(_UNKNOWN + chance.getrandbits(16))
    else:
        head = abi.HV_REPLY.pack(chance.choice(_KNOWN_RESULTS))
    data = head + chance.randbytes(int(1000 ** chance.random()) - 1)
    if to_guest and segments.own and chance.random() < 0.5:
        wanted = abi.HV_BUFFER.pack(
            chance.choice(_BUFFER_PAGES), chance.choice((0, 1, 85, 1 << 31))
        )
        data = abi.HV_REQUEST.pack(abi.KVM_CREATE_COALESCED_MMIO_BUFFER) + wanted
    if chance.random() < 0.2:
        data = data[: chance.randrange(len(head))]
    number = chance.choice((0, 0, 0, 1, 1, 3, 8, 9))
    fds = chance.choices((0, *segments.own, *segments.events), k=number)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []

    def send(segments: Segments) -> None:
        with socket.socket(fileno=os.dup(segments.channels[-2 if to_guest else -1])) as peer:
            # Not socket.send_fds: in Python 3.11 it does not pass its flags on, and would wait here
            # for a side that reads no messages.
            peer.sendmsg([data], rights, socket.MSG_DONTWAIT)

    what = f"a message with {len(fds)} descriptors to the {'guest' if to_guest else 'VMM'}"
    return Intrusion(what, data or b"\0", send)
