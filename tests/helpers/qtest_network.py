"""qtest with a network: commands for the far end of a card's wire beside those for the machine."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable

from helpers.qtest_peer import Peer

FRAME = "frame"
"""`frame 0xHEX`: send to the card."""
FRAMES = "frames"
"""The frames that the card has sent since the last call."""
WAIT = "wait"
"""`wait MS`: let the card's time pass."""

_LONGEST = 65536
# Commands sent one by one until the peer has looked at the wire. QEMU may answer the one that
# arrives together with a frame first.
_LOOKS = 2


class Cable:
    """The far end of a `dgram` back end: `netdev` is the SPEC of the near end."""

    def __init__(self) -> None:
        self._socket = _bound()
        self._echo = _bound()
        self._echo.setblocking(True)
        near = _bound()
        self._near = near.getsockname()
        near.close()
        host, port = self._socket.getsockname()
        self.netdev = (
            f"dgram,id=n0,local.type=inet,local.host={self._near[0]},local.port={self._near[1]},"
            f"remote.type=inet,remote.host={host},remote.port={port}"
        )

    def send(self, frame: bytes) -> None:
        """Towards the card, whose socket then has it."""
        self._socket.sendto(frame, self._near)
        self._settle()

    def take(self) -> list[bytes]:
        """The frames from the card so far."""
        self._settle()
        frames = []
        while True:
            try:
                frames.append(self._socket.recv(_LONGEST))
            except BlockingIOError:
                return frames

    def _settle(self) -> None:
        """Wait until all that has been sent is in the receiver's socket.

        On a busy machine the kernel delivers later, but what one CPU sent in order.
        """
        cpus = os.sched_getaffinity(0)
        try:
            for cpu in cpus:
                os.sched_setaffinity(0, {cpu})
                self._echo.sendto(b"", self._echo.getsockname())
                self._echo.recv(1)
        finally:
            os.sched_setaffinity(0, cpus)

    def __enter__(self) -> Cable:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._echo.close()


def _bound() -> socket.socket:
    found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    found.bind(("127.0.0.1", 0))
    found.setblocking(False)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    return found


def sleep(_peer: Peer, milliseconds: int) -> None:
    """`wait` for QEMU, whose clock runs."""
    time.sleep(milliseconds / 1e3)


def step(peer: Peer, milliseconds: int) -> None:
    """`wait` for this program: no time passes but what a script asks for."""
    assert peer.ask(f"clock_step {milliseconds * 1_000_000}").startswith("OK ")


def converse(
    peer: Peer,
    cable: Cable,
    commands: Iterable[str],
    wait: Callable[[Peer, int], None],
    together: bool = True,
) -> list[str]:
    """Carry a script out: a reply per command, as `Peer.ask_all`.

    `together`: send what is for the machine at once, up to the next command that is not.
    """
    replies: list[str] = []
    machine: list[str] = []

    def ask() -> None:
        replies.extend(peer.ask_all(machine) if together else map(peer.ask, machine))
        machine.clear()

    for command in commands:
        word, _, argument = command.partition(" ")
        if word not in (FRAME, FRAMES, WAIT):
            machine.append(command)
            continue
        ask()
        replies.append("OK")
        if word == FRAMES:
            replies[-1] = " ".join(["OK", *(frame.hex() for frame in cable.take())])
            continue
        if word == WAIT:
            wait(peer, int(argument))
        else:
            cable.send(bytes.fromhex(argument.removeprefix("0x")))
        for _ in range(_LOOKS):
            peer.ask("readb 0x0")
    ask()
    return replies
