"""qtest with a network: commands for the far end of a card's wire beside those for the machine."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable
from types import TracebackType

from helpers.qtest_peer import Peer

FRAME = "frame"
"""`frame 0xHEX`: send to the card."""
FRAMES = "frames"
"""What the card has sent since the last time."""
WAIT = "wait"
"""`wait MS`: let the card's time pass."""

_LONGEST = 65536
# A frame is there once the other side has looked for it: commands answered after it was sent.
_LOOKS = 4


class Cable:
    """The far end of a `dgram` back end: `netdev` is the SPEC of the near end."""

    def __init__(self) -> None:
        self._socket = _bound()
        near = _bound()
        self._near = near.getsockname()
        near.close()
        host, port = self._socket.getsockname()
        self.netdev = (
            f"dgram,id=n0,local.type=inet,local.host={self._near[0]},local.port={self._near[1]},"
            f"remote.type=inet,remote.host={host},remote.port={port}"
        )

    def send(self, frame: bytes) -> None:
        """Towards the card."""
        self._socket.sendto(frame, self._near)

    def take(self) -> list[bytes]:
        """What has come from the card so far."""
        frames = []
        while True:
            try:
                frames.append(self._socket.recv(_LONGEST))
            except BlockingIOError:
                return frames

    def __enter__(self) -> Cable:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()


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
