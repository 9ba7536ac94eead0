"""From qtest commands to operations of the guest, and from their results to replies.

An access of one command is one operation of the guest's processor. Blocks are cut as QEMU's
address_space_rw cuts them: RAM as a whole, registers in aligned pieces of at most 4 bytes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

import numpy as np

from coalesced.devices.i440fx import CONFIG_DATA
from coalesced.hv.abi import OP, OP_IN, OP_LOAD, OP_OUT, OP_STORE, PAGE_SIZE
from coalesced.tools.guests.qtest import (
    DATA_AT,
    DATA_MAX,
    DRAIN,
    HEADER,
    MAILBOX,
    OP_NOTHING,
    OP_READ_MEMORY,
    OP_WRITE_MEMORY,
    OPS_AT,
    OPS_MAX,
    REGISTERS,
)
from coalesced.tools.qtest.protocol import OK, Access, BlockRead, BlockWrite
from coalesced.vmm.accel.base import GuestMemory

_SPACE: Final = 1 << 64
_PIECE: Final = 4  # widest access of a block to a register, as of most of QEMU's devices
_HIDDEN_END: Final = REGISTERS + PAGE_SIZE

# (kind, size, address, value, data): a row of `hv.abi.OP`, and the bytes of OP_WRITE_MEMORY.
Step = tuple[int, int, int, int, bytes]


@dataclass(slots=True)
class Work:
    """A command in progress: its remaining steps, and the bytes read so far."""

    command: Access | BlockRead | BlockWrite
    steps: Iterator[Step]
    read: bytearray = field(default_factory=bytearray)

    def reply(self) -> bytes:
        """The answer, once all steps are done."""
        command = self.command
        if isinstance(command, BlockWrite) or command.form is None:
            return OK
        if isinstance(command, BlockRead):
            return command.form(bytes(self.read))
        return command.form(int.from_bytes(self.read, "little"))


class Splitter:
    """Splits commands into steps by the addresses of RAM and devices."""

    def __init__(self, ram: list[GuestMemory], queues: bool) -> None:
        """`queues`: writes may be queued while the guest continues."""
        self._memory = ram
        self._ram: list[tuple[int, int]] = []
        self._queues = queues
        self._on_the_way = False
        self.look()

    def look(self) -> None:
        """Read the addresses of RAM; the guest is stopped."""
        self._ram = sorted((memory.start, memory.start + memory.size) for memory in self._memory)

    def work(self, command: Access | BlockRead | BlockWrite) -> Work:
        """The steps of a command; they are made when they are asked for, one command at a time."""
        if isinstance(command, Access):
            return Work(command, iter(self._access(command)))
        if isinstance(command, BlockRead):
            return Work(command, self._block(OP_LOAD, command.address, command.size, b""))
        data = command.data
        return Work(command, self._block(OP_STORE, command.address, len(data), data))

    def accesses_of(self, step: Step) -> int:
        """The number of device accesses of a step."""
        kind, size, address, _, _ = step
        if kind > OP_OUT:
            return 0
        if kind in (OP_IN, OP_OUT):
            return 1
        last = address + size - 1
        if address // PAGE_SIZE == last // PAGE_SIZE:
            return int(not self._is_ram(address))
        return (not self._is_ram(address)) + (not self._is_ram(last))

    @staticmethod
    def may_move_ram(command: Access | BlockRead | BlockWrite) -> bool:
        """Whether a command may map or unmap RAM: later commands must be split after it."""
        if not isinstance(command, Access) or command.kind != OP_OUT:
            return False
        first = command.address
        return first < CONFIG_DATA + 4 and first + command.size > CONFIG_DATA

    # --- single accesses ---

    def _access(self, command: Access) -> list[Step]:
        kind, size, address = command.kind, command.size, command.address
        port = kind in (OP_IN, OP_OUT)
        if not port and address < _HIDDEN_END and address + size > MAILBOX:
            return [_nothing(size)]
        room = (0x10000 if port else _SPACE) - address
        if room >= size:
            return self._noted((kind, size, address, command.value, b""))
        # QEMU's memory wraps to 0; after the last port there is nothing, which reads 0.
        data = command.value.to_bytes(size, "little")
        steps = [*self._pieces(kind, address, room, data[:room])]
        if port:
            return [*steps, _nothing(size - room)]
        return [*steps, *self._pieces(kind, 0, size - room, data[room:])]

    def _pieces(self, kind: int, address: int, size: int, data: bytes) -> Iterator[Step]:
        """Aligned accesses, of `_PIECE` bytes at most; data is empty when they read."""
        position = 0
        while position < size:
            step = _PIECE
            while step > size - position or (address + position) & (step - 1):
                step >>= 1
            value = int.from_bytes(data[position : position + step], "little")
            yield from self._noted((kind, step, address + position, value, b""))
            position += step

    def _noted(self, step: Step) -> list[Step]:
        """The step, after a drain if it accesses RAM and writes may be queued."""
        if not self._queues:
            return [step]
        kind, size, address, _, _ = step
        if kind in (OP_LOAD, OP_STORE, OP_READ_MEMORY, OP_WRITE_MEMORY) and (
            self._is_ram(address) or self._is_ram(address + size - 1)
        ):
            if self._on_the_way:
                self._on_the_way = False
                return [(OP_STORE, 4, DRAIN, 0, b""), step]
        else:
            # A load exits, and the ring is drained before any exit.
            self._on_the_way = kind in (OP_STORE, OP_OUT)
        return [step]

    # --- blocks ---

    def _block(self, kind: int, address: int, size: int, data: bytes) -> Iterator[Step]:
        done = 0
        while done < size:
            at = (address + done) & (_SPACE - 1)
            ram, end = self._range(at)
            length = min(size - done, end - at, DATA_MAX)
            part = data[done : done + length]
            if ram:
                memory_kind = OP_READ_MEMORY if kind == OP_LOAD else OP_WRITE_MEMORY
                yield from self._noted((memory_kind, length, at, 0, part))
            elif MAILBOX <= at < _HIDDEN_END:
                yield _nothing(length)
            else:
                yield from self._pieces(kind, at, length, part)
            done += length

    def _is_ram(self, address: int) -> bool:
        return any(start <= address < end for start, end in self._ram)

    def _range(self, address: int) -> tuple[bool, int]:
        """Whether an address is RAM, and the end of its range."""
        for start, end in self._ram:
            if start <= address < end:
                return True, end
            if address < start:
                return False, start
        for edge in (MAILBOX, _HIDDEN_END):
            if address < edge:
                return False, edge
        return False, _SPACE


def _nothing(size: int) -> Step:
    return OP_NOTHING, size, 0, 0, b""


@dataclass(slots=True)
class _Part:
    """The rows of one command in a batch, and the number of accesses up to its last one."""

    work: Work
    first: int
    stop: int
    accesses: int
    done: bool


class Batch:
    """As many commands as the mailbox takes at once."""

    def __init__(self, splitter: Splitter) -> None:
        self._splitter = splitter
        splitter.look()
        self._rows: list[tuple[int, int, int, int]] = []
        self._data = bytearray()
        self._parts: list[_Part | bytes] = []
        self._accesses = 0

    def __bool__(self) -> bool:
        return bool(self._parts)

    def add_reply(self, reply: bytes) -> None:
        """A reply that needs no guest, in its turn."""
        self._parts.append(reply)

    def add(self, work: Work) -> bool:
        """Put a command's steps in; False when some are left over for the next batch."""
        first = len(self._rows)
        done = True
        for step in work.steps:
            kind, size, address, value, data = step
            moved = size if kind >= OP_READ_MEMORY else 0
            if len(self._rows) >= OPS_MAX or len(self._data) + moved > DATA_MAX:
                work.steps = chain((step,), work.steps)
                done = False
                break
            if moved:
                value = len(self._data)
                self._data += data or bytes(size)
            self._rows.append((kind, size, address, value))
            self._accesses += self._splitter.accesses_of(step)
        self._parts.append(_Part(work, first, len(self._rows), self._accesses, done))
        return done

    @property
    def size(self) -> int:
        """The number of operations for the guest."""
        return len(self._rows)

    def put(self, mailbox: GuestMemory, answer: int) -> None:
        """Write the batch into the mailbox, and how the guest is to answer."""
        mailbox.write(0, HEADER.pack(len(self._rows), len(self._data), answer))
        mailbox.write(OPS_AT - MAILBOX, np.array(self._rows, dtype=OP).tobytes())
        mailbox.write(DATA_AT - MAILBOX, bytes(self._data))

    def replies(self, mailbox: GuestMemory, lines: list[tuple[int, bytes]]) -> list[bytes]:
        """The replies in the order of the commands, from what the guest left in the mailbox.

        `lines`: other lines to be sent, each before the reply to the command of the access with
        that number, counted from 1.
        """
        size = len(self._rows) * OP.itemsize
        values = np.frombuffer(mailbox.read(OPS_AT - MAILBOX, size), dtype=OP)["value"].tolist()
        data = mailbox.read(DATA_AT - MAILBOX, len(self._data))
        ends = [part.accesses for part in self._parts if isinstance(part, _Part)]
        positions = [(bisect_left(ends, count), line) for count, line in lines]
        positions.reverse()
        found: list[bytes] = []
        index = 0
        for part in self._parts:
            if isinstance(part, bytes):
                found.append(part)
                continue
            while positions and positions[-1][0] <= index:
                found.append(positions.pop()[1])
            index += 1
            self._gather(part, values, data)
            if part.done:
                found.append(part.work.reply())
        return [*found, *(line for _, line in reversed(positions))]

    def _gather(self, part: _Part, values: list[int], data: bytes) -> None:
        read = part.work.read
        for row in range(part.first, part.stop):
            kind, size, _, value = self._rows[row]
            if kind in (OP_LOAD, OP_IN):
                read += values[row].to_bytes(size, "little")
            elif kind in (OP_READ_MEMORY, OP_NOTHING):
                read += data[value : value + size]
