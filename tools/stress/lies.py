"""A side that sends one wrong message on the control socket while the pair starts."""

from __future__ import annotations

import array
import os
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from coalesced.hv import abi

VCPU = 3  # the number of the message about the vCPU, with its run segment and pipes
# The messages of either side until the guest runs: the VM, two capabilities, the vCPU, zones, RAM
# and the guest.
_MESSAGES = (0, 1, 2, VCPU, VCPU, VCPU, 4, 5, 6, 7, 8)
_RESULTS = (1, 2, 3, 0, -1, -12, 1 << 31, (1 << 63) - 1, -(1 << 63))
_RIGHTS = (socket.SOL_SOCKET, socket.SCM_RIGHTS)


def _short() -> int:
    fd = os.memfd_create("short")
    os.ftruncate(fd, 100)
    return fd


# Descriptors that no message may carry.
_OTHERS: dict[str, Callable[[], int]] = {
    "/dev/zero": lambda: os.open("/dev/zero", os.O_RDWR),
    "/dev/full": lambda: os.open("/dev/full", os.O_RDWR),
    "a folder": lambda: os.open("/", os.O_RDONLY),
    "a program": lambda: os.open("/proc/self/exe", os.O_RDONLY),
    "an eventfd": lambda: os.eventfd(0),
    "another eventfd": lambda: os.eventfd(0, os.EFD_NONBLOCK),
    "a socket": lambda: socket.socket(socket.AF_UNIX).detach(),
    "a pipe open for both": lambda: os.open(f"/proc/self/fd/{os.pipe()[0]}", os.O_RDWR),
    "short memory": _short,
}

_ABOUT_RINGS = 0.5  # share of the lies, where there are own rings

WAYS = (*_OTHERS, "fewer descriptors", "more descriptors", "cut", "empty", "number")


@dataclass(frozen=True)
class Lie:
    """The change of message `number`."""

    side: str  # 'hv' or 'vmm'
    number: int
    what: str  # a descriptor of _OTHERS, or how the message is changed
    result: int = 0
    place: int = 0  # of the descriptor that is another
    about: int = 0  # a request: only it, and replies to it, are counted; 0: all messages

    @classmethod
    def draw(cls, chance: random.Random, rings: int = 0) -> Lie:
        """The next one, in a pair with `rings` own rings."""
        side, what, result = (
            chance.choice(("hv", "vmm")),
            chance.choice(WAYS),
            chance.choice(_RESULTS),
        )
        if rings and chance.random() < _ABOUT_RINGS:
            return about_ring(side, chance.randrange(rings), what, result)
        return cls(side, chance.choice(_MESSAGES), what, result, chance.randrange(3))

    def __str__(self) -> str:
        about = f" about {self.about:#x}" if self.about else ""
        return (
            f"{self.side} lies in message {self.number}{about}: {self.what} "
            f"({self.result}, {self.place})"
        )

    def tell(self, data: bytes, fds: list[int]) -> tuple[bytes, list[int]]:
        """The message as sent."""
        if self.what in _OTHERS:
            other = _OTHERS[self.what]
            return data, [other() if n == self.place else fd for n, fd in enumerate(fds)]
        head = abi.HV_REQUEST if self.side == "vmm" else abi.HV_REPLY
        number = 0x7F00_0000 if self.side == "vmm" else self.result
        changed: dict[str, tuple[bytes, list[int]]] = {
            "fewer descriptors": (data, fds[1:]),
            "more descriptors": (data, [*fds, 0]),
            "cut": (data[: self.result % len(data)] or b"\0", fds),
            "empty": (b"", []),
            "number": (head.pack(number) + data[head.size :], fds),
        }
        return changed[self.what]


def about_ring(side: str, number: int, what: str, result: int = 0) -> Lie:
    """A lie in the request for an own ring, counted from 0, or in the reply to it."""
    return Lie(side, number, what, result, 0, abi.KVM_CREATE_COALESCED_MMIO_BUFFER)


class LyingSocket(socket.socket):
    """A control socket that changes one message."""

    lie: Lie | None = None
    sent = 0  # messages that count
    asked = b""  # the request that is being answered

    def recvmsg(self, *arguments: Any) -> Any:
        got = super().recvmsg(*arguments)
        self.asked = got[0][: abi.HV_REQUEST.size]
        return got

    def _concerns(self, lie: Lie, buffers: Any) -> bool:
        """Whether a message is the one to be changed."""
        request = b"".join(buffers)[: abi.HV_REQUEST.size] if lie.side == "vmm" else self.asked
        if lie.about and request != abi.HV_REQUEST.pack(lie.about):
            return False
        self.sent += 1
        return self.sent == lie.number + 1

    def sendmsg(self, buffers: Any, ancillary: Any = (), *arguments: Any) -> int:
        if self.lie is None or not self._concerns(self.lie, buffers):
            return super().sendmsg(buffers, ancillary, *arguments)
        fds = array.array("i")
        for level, kind, content in ancillary:
            if (level, kind) == _RIGHTS:
                fds.frombytes(bytes(content))
        data, given = self.lie.tell(b"".join(buffers), fds.tolist())
        rights = [(*_RIGHTS, array.array("i", given))] if given else []
        return super().sendmsg([data], rights, *arguments)
