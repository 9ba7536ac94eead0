"""The transmit ring: from descriptors to frames.

Source: 8254x manual, section 3.3 (descriptors) and 3.4 (the ring). The plain path takes one
descriptor at a time, in QEMU 7.2's order, and defines the behaviour; the fast path takes whole
frames of one descriptor each, many at once, where the result is the same.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from coalesced.devices.e1000.budget import Budget
from coalesced.devices.e1000.frame import Frame, Outgoing
from coalesced.devices.e1000.interrupts import Interrupts
from coalesced.devices.e1000.offload import IXSM, TSE, TXSM, parse_context
from coalesced.devices.e1000.registers import (
    CTRL,
    CTRL_VME,
    INT_TXDW,
    INT_TXQE,
    TCTL,
    TCTL_EN,
    TDBAH,
    TDBAL,
    TDH,
    TDLEN,
    TDT,
    VET,
    RegisterFile,
)
from coalesced.devices.e1000.statistics import Statistics

if TYPE_CHECKING:
    from coalesced.devices.bus.device import Ram, Timer
    from coalesced.devices.bus.pci import PciFunction

DESCRIPTOR: Final = struct.Struct("<QII")  # buffer address, command and length, status and more
DESCRIPTOR_SIZE: Final = DESCRIPTOR.size

EOP: Final = 1 << 24
RS: Final = 1 << 27
RPS: Final = 1 << 28
DEXT: Final = 1 << 29
VLE: Final = 1 << 30
IDE: Final = 1 << 31
DTYP_DATA: Final = 1 << 20
"""With DEXT: a data descriptor (1) or a context descriptor (0)."""
LENGTH: Final = 0xFFFF
POPTS_SHIFT: Final = 8
_SUMS: Final = (IXSM | TXSM) << POPTS_SHIFT
SPECIAL_SHIFT: Final = 16

DD: Final = 1 << 0
_WRITTEN_AS_0: Final = 0xE
"""EC, LC and TU, which cannot happen here."""
_STATUS_AT: Final = 12

BATCH: Final = 256
"""Frames that are sent at once."""
_SHORTEST_FAST: Final = 12


@dataclass
class _Current:
    """The descriptor at TDH, as it was when it was read."""

    address: int
    lower: int
    upper: int
    data: bytes
    taken: int = 0  # bytes of its buffer
    done: bool = False  # but for sending what it made


class Transmitter:
    """Sends what lies between TDH and TDT."""

    def __init__(
        self,
        function: PciFunction,
        registers: RegisterFile,
        statistics: Statistics,
        interrupts: Interrupts,
        budget: Budget,
        send: Callable[[Sequence[bytes]], int],
        may_batch: Callable[[], bool],
        resume_soon: Callable[[], Timer],
    ) -> None:
        """`send` takes frames in order and returns how many it took, as `Wire.send` does.

        `may_batch()` is false while a frame that is sent may be written to memory before the next
        descriptor is read. `resume_soon` has `resume` called after the machine's own turn.
        """
        self._function = function
        self._registers = registers
        self._statistics = statistics
        self._interrupts = interrupts
        self._budget = budget
        self._send = send
        self._frame = Frame(statistics, function.dma_read, self._emit)
        self._unsent: list[Outgoing] = []  # of the descriptor at TDH, which was carried out
        self._current: _Current | None = None  # begun, and not finished
        self._start = 0  # where TDH was when sending began
        self._blocked = False  # the wire is full
        self._may_batch = may_batch
        self._resume_soon = resume_soon
        self._busy = False
        self.pause: Timer | None = None
        """The timer of the next turn, while frames are left over from this one; None otherwise."""

    def reset(self) -> None:
        """No frame has begun; frames that the wire did not take are dropped."""
        self._frame.reset()
        self._unsent.clear()
        self._current = None
        self._blocked = False
        self._end_break()

    def _end_break(self) -> None:
        if self.pause is not None:
            self.pause.cancel()
            self.pause = None

    def state(self) -> bytes:
        """The frame that has begun."""
        return self._frame.state() + repr(self._current).encode()

    def run(self) -> None:
        """TDT or TCTL was written: send, and set the causes."""
        if not self._blocked and not self._busy:
            self._start = self._registers[TDH]
            self._go_on()

    def _go_on(self) -> None:
        if self._busy or not self._registers[TCTL] & TCTL_EN:
            return
        self._end_break()
        self._budget.begin()
        self._busy = True
        try:
            causes = self._send_all()
        finally:
            self._busy = False
        self._interrupts.add(causes)

    def resume(self) -> None:
        """The wire has room again, or the pause is over: continue with the rest."""
        if not self._busy and (self._blocked or self.pause is not None):
            self._blocked = False
            self._end_break()
            self._go_on()

    def _send_all(self) -> int:
        registers = self._registers
        start, count = self._start, registers[TDLEN] // DESCRIPTOR_SIZE
        causes = 0
        batches = self._may_batch()
        while registers[TDH] != registers[TDT]:
            sent, found = self._send_batch(start, count) if batches else (0, 0)
            if not sent and not self._blocked:
                sent, found = self._send_next()
            causes |= found
            if sent:
                head = registers[TDH] + sent
                registers[TDH] = head if head < count else 0
            if self._blocked:
                return causes
            # A tail that the head never meets: once around is enough, as in QEMU.
            if sent and (registers[TDH] == start or start >= count):
                break
            if self._budget.spent and registers[TDH] != registers[TDT]:
                self.pause = self._resume_soon()
                return causes
        return causes | INT_TXQE

    @property
    def _base(self) -> int:
        registers = self._registers
        return registers[TDBAH] << 32 | registers[TDBAL] & ~0xF

    # --- the plain path ---

    def _send_next(self) -> tuple[int, int]:
        """Continue with the descriptor at TDH: (1 when it is done, causes)."""
        current = self._current = self._current or self._read_descriptor()
        if not current.done:
            self._carry_out(current)
        self._flush()
        if self._blocked or not current.done:
            return 0, 0
        self._current = None
        self._interrupts.transmit_delayed |= bool(current.lower & IDE)
        return 1, self._write_back(current.address, current.lower, current.upper)

    def _read_descriptor(self) -> _Current:
        self._budget.spend(descriptors=1)
        address = self._base + DESCRIPTOR_SIZE * self._registers[TDH]
        data = self._function.dma_read(address, DESCRIPTOR_SIZE)
        _, lower, upper = DESCRIPTOR.unpack(data)
        return _Current(address, lower, upper, data)

    def _carry_out(self, current: _Current) -> None:
        lower = current.lower
        if lower & DEXT and not lower & DTYP_DATA:
            self._take_context(current)
        else:
            self._take_data(current)

    def _take_context(self, current: _Current) -> None:
        context = parse_context(current.data)
        if current.lower & TSE:
            self._frame.segmentation = context
            self._frame.restart_segments()
        else:
            self._frame.context = context
        current.done = True

    def _take_data(self, current: _Current) -> None:
        frame, (address, lower, upper) = self._frame, DESCRIPTOR.unpack(current.data)
        extended = lower & DEXT
        segmented = bool(extended and lower & TSE)
        if not current.taken:
            if extended and frame.size == 0:
                frame.checksums = upper >> POPTS_SHIFT & (IXSM | TXSM)
            if lower & VLE and self._registers[CTRL] & CTRL_VME and (segmented or lower & EOP):
                tag_type = self._registers[VET] & 0xFFFF
                frame.set_tag(struct.pack(">HH", tag_type, upper >> SPECIAL_SHIFT))
        length = lower & LENGTH
        if segmented:
            left = frame.segment(address + current.taken, length - current.taken)
            current.taken = length - left
            if left:
                return
        else:
            frame.append(address, length)
        if lower & EOP:
            frame.end(segmented)
        current.done = True

    def _emit(self, frame: Outgoing) -> bool:
        self._budget.spend(frames=1, size=len(frame.data))
        self._unsent.append(frame)
        if len(self._unsent) >= BATCH:
            self._flush()
        return not self._budget.spent

    def _flush(self) -> None:
        if self._unsent and not self._blocked:
            taken = self._send([frame.data for frame in self._unsent])
            sent = self._unsent[:taken]
            self._statistics.sent(
                [frame.destination for frame in sent],
                [len(frame.data) for frame in sent],
                sum(frame.tag_size for frame in sent),
            )
            del self._unsent[:taken]
            self._blocked = bool(self._unsent)

    def _write_back(self, address: int, lower: int, upper: int) -> int:
        if not lower & (RS | RPS):
            return 0
        status = upper & ~_WRITTEN_AS_0 | DD
        self._function.dma_write(address + _STATUS_AT, status.to_bytes(4, "little"))
        return INT_TXDW

    # --- the fast path ---

    def _send_batch(self, start: int, count: int) -> tuple[int, int]:
        """Send frames of one descriptor each from TDH on: (descriptors done, causes)."""
        registers, base = self._registers, self._base
        head, tail = registers[TDH], registers[TDT]
        ram = self._function.ram_at(base)
        size = DESCRIPTOR_SIZE * count
        if (
            ram is None
            or base + size > ram.start + ram.size
            or head >= count
            or self._frame.begun
            or self._current is not None
        ):
            return 0, 0
        end = min(tail if tail > head else count, count, head + BATCH)
        if start > head:
            end = min(end, start)
        at = base - ram.start + DESCRIPTOR_SIZE * head
        descriptors = bytes(ram.view[at : at + DESCRIPTOR_SIZE * (end - head)])
        frames, rows = self._simple_frames(descriptors, ram, base, base + size)
        if not frames:
            return 0, 0
        sent = self._send(frames)
        self._blocked = sent < len(frames)
        if not sent:
            return 0, 0
        del frames[sent:], rows[sent:]
        self._frame.data[:_SHORTEST_FAST] = frames[-1][:_SHORTEST_FAST]
        sizes = [*map(len, frames)]
        self._budget.spend(frames=sent, size=sum(sizes))
        self._statistics.sent([frame[:6] for frame in frames], sizes)
        causes = 0
        for lower, upper in rows:
            if lower & (RS | RPS):
                status = upper & ~_WRITTEN_AS_0 | DD
                ram.write(at + _STATUS_AT, status.to_bytes(4, "little"))
                causes = INT_TXDW
            if lower & IDE:
                self._interrupts.transmit_delayed = True
            at += DESCRIPTOR_SIZE
        return sent, causes

    def _simple_frames(
        self, descriptors: bytes, ram: Ram, ring: int, ring_end: int
    ) -> tuple[list[bytes], list[tuple[int, int]]]:
        """The frames of descriptors, up to the first that needs the plain path.

        With the last two words of their descriptors. Every buffer is RAM, and none lies on the
        ring, whose descriptors are written back while buffers are read.
        """
        tagged = VLE if self._registers[CTRL] & CTRL_VME else 0
        legacy, data = EOP | DEXT | tagged, EOP | DEXT | DTYP_DATA | TSE | tagged
        frames: list[bytes] = []
        rows: list[tuple[int, int]] = []
        view, start, stop = ram.view, ram.start, ram.start + ram.size
        for address, lower, upper in DESCRIPTOR.iter_unpack(descriptors):
            length = lower & LENGTH
            end = address + length
            if (
                length < _SHORTEST_FAST
                or (address < ring_end and end > ring)
                or (
                    lower & legacy != EOP
                    and (lower & data != EOP | DEXT | DTYP_DATA or upper & _SUMS)
                )
            ):
                break
            if address < start or end > stop:
                other = self._function.ram_at(address)
                if other is None or end > other.start + other.size:
                    break
                view, start, stop = other.view, other.start, other.start + other.size
            frames.append(bytes(view[address - start : end - start]))
            rows.append((lower, upper))
        return frames, rows
