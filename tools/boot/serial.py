"""The serial line of a booted machine: kept, and shown on the terminal or written to a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from coalesced.devices.uart import Uart
from coalesced.tools.errors import BadInput
from coalesced.tools.runs.options import check_writable
from coalesced.vmm.loop import Loop

STDIO: Final = "stdio"
NONE: Final = "none"
_AT_ONCE: Final = 4096

Target = Callable[[bytes], object]


class Serial:
    """Everything that the guest sends over COM1; `show` takes it as it comes."""

    def __init__(self, uart: Uart, show: Target = lambda _data: None) -> None:
        self.output = bytearray()
        self._show = show
        self._uart = uart
        self._waiting = b""  # input for which there is no room
        self._begin: Callable[[], None] = lambda: None
        uart.send = self._send

    def read_from(self, fd: int, loop: Loop) -> None:
        """Pass the guest everything from a descriptor, up to its end.

        Begins with the first output: before a driver has set up the FIFO, input would be lost.
        """

        def read() -> None:
            loop.remove_reader(fd)  # until the guest has taken this
            self._waiting = os.read(fd, _AT_ONCE)
            if self._waiting:
                self._uart.on_room = give
                give()

        def give() -> None:
            self._give()
            if not self._waiting:
                self._uart.on_room = lambda: None
                loop.add_reader(fd, read)

        def read_file() -> None:
            self._waiting = self._waiting or os.read(fd, _AT_ONCE)
            self._give()

        def begin() -> None:
            try:
                loop.add_reader(fd, read)
            except PermissionError:  # a file, which epoll does not take
                self._uart.on_room = read_file
                read_file()

        self._begin = begin

    def _send(self, data: bytes) -> None:
        self.output += data
        self._show(data)
        begin, self._begin = self._begin, lambda: None
        begin()

    def _give(self) -> None:
        self._waiting = self._waiting[self._uart.receive(self._waiting) :]


def check(given: str) -> str:
    """--serial: `stdio`, `none` or a file that can be written. Raises BadInput."""
    if given not in (STDIO, NONE):
        check_writable("--serial", Path(given))
    return given


def to_terminal(as_json: bool) -> Target:
    """A function that shows output at once; beside a JSON object, on stderr."""
    stream = sys.stderr if as_json else sys.stdout

    def show(data: bytes) -> None:
        stream.buffer.write(data)
        stream.buffer.flush()

    return show


def write_file(given: str, output: bytes) -> None:
    """Write what came over the line to the file of --serial, if it names one. Raises BadInput."""
    if given in (STDIO, NONE):
        return
    try:
        Path(given).write_bytes(output)
    except OSError as error:
        raise BadInput(f"--serial {given}: {error.strerror}") from error
