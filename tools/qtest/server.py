"""The server of `coalesced qtest`: lines from a socket, batches for the guest, replies."""

from __future__ import annotations

import os
import select
import socket
from collections import deque
from collections.abc import Callable
from typing import Final

from coalesced.devices.bus.region import Region
from coalesced.hv.abi import PAGE_SIZE
from coalesced.tools.guests.qtest import (
    ANSWER,
    BY_EXIT,
    BY_PIPE,
    FIRST_LINE,
    HEADER,
    MAILBOX,
    MAILBOX_SIZE,
    REGISTERS,
    STOP,
)
from coalesced.tools.qtest.batch import Batch, Splitter, Work
from coalesced.tools.qtest.control import Controls, Events
from coalesced.tools.qtest.protocol import LINE_MAX, TOO_LONG, Control, Refused, parse
from coalesced.vmm.accel.base import GuestMemory
from coalesced.vmm.board import Board

_READ_AT_ONCE: Final = 1 << 18
_LONG: Final = 64  # operations of a batch from which on its end is an exit
_BACKLOG_MAX: Final = 32 << 20  # bytes of commands that wait, while the peer sends on


class Server:
    """Takes commands from a connected socket, lets the guest carry them out, and replies.

    The guest has one batch at a time; meanwhile lines accumulate. A command about interrupts or the
    clock, which the guest does not carry out, waits until all before it are done.
    """

    def __init__(self, board: Board, peer: socket.socket, wake: int) -> None:
        """`wake`: the read end of the pipe that the guest writes to."""
        self.commands = 0
        machine = board.machine
        self._machine = machine
        self._peer = peer
        self._wake = wake
        self._lines = _Lines()
        self._reading = self._waking = True
        self._ended = False
        self._left: Work | None = None
        self._filling: Batch | None = None
        self._batch: Batch | None = None  # with the guest
        self._number = 0
        self._events = Events(machine)
        self._controls = Controls(board, self._tell)
        self._splitter = Splitter(machine.ram, any(machine.coalescing.supported.values()))
        self._mailbox: GuestMemory = machine.add_ram(MAILBOX, MAILBOX_SIZE, declared=False)
        registers = Region("qtest", PAGE_SIZE, lambda _at, _size: 0, self._write_register)
        machine.memory.map(registers, REGISTERS)
        self._deaf = False  # the peer has closed its end
        peer.setblocking(False)
        os.set_blocking(wake, False)
        machine.loop.add_reader(peer.fileno(), self._readable)
        machine.loop.add_reader(wake, self._woken)

    # --- the socket ---

    def _readable(self) -> None:
        self._receive()
        if self._batch is None:
            self._next()
        self._watch()

    def _receive(self) -> None:
        try:
            data = self._peer.recv(_READ_AT_ONCE)
        except BlockingIOError:
            return
        except OSError:  # reset by the peer: it is as gone as after a close
            data = b""
        if data:
            self._lines.feed(data)
        else:
            self._ended = True

    def _watch(self) -> None:
        """Watch the peer while it is connected and there is room.

        During a long batch nothing is watched: exits cost less without descriptors.
        """
        short = self._batch is None or self._batch.size < _LONG
        self._reading = self._watch_one(
            self._peer.fileno(),
            self._readable,
            self._reading,
            short and not self._ended and self._lines.size < _BACKLOG_MAX,
        )
        self._waking = self._watch_one(self._wake, self._woken, self._waking, short)

    def _watch_one(self, fd: int, call: Callable[[], None], watched: bool, wanted: bool) -> bool:
        if wanted and not watched:
            self._machine.loop.add_reader(fd, call)
        elif watched and not wanted:
            self._machine.loop.remove_reader(fd)
        return wanted

    def _send(self, lines: list[bytes]) -> None:
        """Send lines; meanwhile, read from a peer that sends and does not receive.

        A peer that has gone gets no more replies; what it sent before is still carried out.
        """
        data = memoryview(b"".join([line + b"\n" for line in lines]))
        while data and not self._deaf:
            try:
                data = data[self._peer.send(data, socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                self._wait_for_room()
            except OSError:
                self._deaf = True

    def _wait_for_room(self) -> None:
        more = not self._ended and self._lines.size < _BACKLOG_MAX
        poll = select.poll()
        poll.register(self._peer, select.POLLOUT | (select.POLLIN if more else 0))
        if poll.poll()[0][1] & select.POLLIN:
            self._receive()

    def _tell(self, line: bytes) -> None:
        """Send a line that is no reply, in its place among the replies."""
        if self._batch is not None:
            self._events.add(line)
        elif self._filling is not None:
            self._filling.add_reply(line)
        else:
            self._send([line])

    # --- batches ---

    def _next(self) -> None:
        """Give the guest its next batch, if there is one."""
        while self._batch is None:
            self._filling = Batch(self._splitter)
            self._fill(self._filling)
            batch, self._filling = self._filling, None
            if batch.size:
                self._batch = batch
                batch.put(self._mailbox, BY_EXIT if batch.size >= _LONG else BY_PIPE)
                if self._controls.intercepting:
                    self._events.start()
                self._ring()
            elif batch:
                self._send(batch.replies(self._mailbox, []))
            else:
                if self._ended:
                    self._mailbox.write(0, HEADER.pack(STOP, 0, BY_PIPE))
                    self._ring()
                return

    def _fill(self, batch: Batch) -> None:
        if self._left is not None:
            if not batch.add(self._left):
                return
            self._left = None
        # Without exits it is unknown which of several commands raised an interrupt.
        one = self._controls.intercepting and self._machine.accel.ring is None
        while not (one and batch) and (line := self._lines.peek()) is not None:
            try:
                command = parse(line)
                if isinstance(command, Control):
                    if batch.size:
                        return
                    command = self._controls.reply(command)
            except Refused as refused:
                command = refused.reply
            self._lines.pop()
            self.commands += 1
            if isinstance(command, bytes):
                batch.add_reply(command)
                continue
            assert not isinstance(command, Control)
            work = self._splitter.work(command)
            if not batch.add(work):
                self._left = work
                return
            if self._splitter.may_move_ram(command):
                return

    def _ring(self) -> None:
        """Interrupt the guest: its mailbox is full."""
        self._number += 1
        set_irq = self._machine.accel.set_irq
        set_irq(FIRST_LINE + (self._number + 1 & 1), False)
        set_irq(FIRST_LINE + (self._number & 1), True)

    def _woken(self) -> None:
        """The guest reports through the pipe that its batch is done."""
        try:
            os.read(self._wake, 64)
        except BlockingIOError:
            return
        self._done()

    def _write_register(self, offset: int, _size: int, _value: int) -> None:
        """The guest reports by an exit that its batch is done."""
        if offset == ANSWER - REGISTERS:
            self._done()

    def _done(self) -> None:
        batch, self._batch = self._batch, None
        if batch is not None:
            self._send(batch.replies(self._mailbox, self._events.take()))
            self._next()
            self._watch()


class _Lines:
    """The lines of the received data."""

    def __init__(self) -> None:
        self.size = 0  # bytes of whole lines that wait
        self._rest = bytearray()
        self._lines: deque[bytes] = deque()
        self._skipping = False

    def feed(self, data: bytes) -> None:
        """Add what was received."""
        first, *others = data.split(b"\n")
        for part in others:
            self._end_line(first)
            first = part
        if not self._skipping:
            self._rest += first
            if len(self._rest) >= LINE_MAX:
                self._skipping = True
                self._rest.clear()

    def _end_line(self, part: bytes) -> None:
        if self._skipping:
            self._skipping = False
            line = TOO_LONG
        elif len(self._rest) + len(part) >= LINE_MAX:
            self._rest.clear()
            line = TOO_LONG
        else:
            line = bytes(self._rest) + part if self._rest else part
            self._rest.clear()
        self._lines.append(line)
        self.size += len(line) + 1

    def peek(self) -> bytes | None:
        """The next line, None when there is none."""
        return self._lines[0] if self._lines else None

    def pop(self) -> None:
        """Take the next line away."""
        self.size -= len(self._lines.popleft()) + 1
