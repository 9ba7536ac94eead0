"""The VMM's connection to the page's server: messages on a socket, and memory for bulk data.

The server asks, the VMM answers: memory is written before the answer is sent, and the next
question comes after the memory was read. A VMM that nobody asks does nothing.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
from contextlib import suppress
from typing import Any, Final

MESSAGE_MAX: Final = 1 << 17
RING_BYTES: Final = 1 << 20
"""Room for queued entries; of a longer queue the newest are not shown."""
SCREEN_BYTES: Final = 16 << 20
Message = dict[str, Any]


class Closed(Exception):
    """The other side has ended."""


class Link:
    """One end of the connection."""

    def __init__(self, end: socket.socket, memory: int) -> None:
        """`memory`: a descriptor of RING_BYTES + SCREEN_BYTES bytes."""
        self.socket = end
        self.memory = mmap.mmap(memory, RING_BYTES + SCREEN_BYTES)

    def send(self, message: Message) -> None:
        """Raises Closed."""
        try:
            self.socket.send(json.dumps(message).encode())
        except OSError as error:
            raise Closed from error

    def receive(self) -> Message | None:
        """The next message; None when none waits on a socket that does not block. Raises Closed."""
        try:
            data = self.socket.recv(MESSAGE_MAX)
        except BlockingIOError:
            return None
        except OSError as error:
            raise Closed from error
        if not data:
            raise Closed
        message: Message = json.loads(data)
        return message

    def close(self) -> None:
        """Give everything back."""
        self.socket.close()
        with suppress(BufferError):
            self.memory.close()


def pair() -> tuple[Link, socket.socket, int]:
    """The VMM's end, and the parts of the server's end: its socket and the memory."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    memory = os.memfd_create("coalesced-live")
    os.ftruncate(memory, RING_BYTES + SCREEN_BYTES)
    return Link(ours, memory), theirs, memory
