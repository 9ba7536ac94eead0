"""A network card as the guests' driver sees it: rings in a piece of RAM, and nothing behind them.

It is written from the manual's point of view, a descriptor at a time, to hold the driver against.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from coalesced.devices.e1000 import registers as reg
from coalesced.hv.vcpu import Vcpu
from coalesced.tools.guests.network import memory
from coalesced.tools.guests.network.blocks import SLOT
from coalesced.tools.guests.network.rings import SLOTS

MAC = bytes.fromhex("525400123456")
SLOT_NUMBER = 3
LINE = 1 << 11  # of a card in slot 3

_DESCRIPTOR = struct.Struct("<QHHBBH")


class FakeCard(Vcpu):
    """A vCPU whose only device is a card in slot 3; what the guest does to it is in `log`.

    Frames that the guest sends go to `wire`; `arrive` brings some in.
    """

    def __init__(self, wire: Callable[[list[bytes]], None] = lambda _frames: None) -> None:
        self.wire = wire
        self.memory = bytearray(4 << 20)
        self.registers = {reg.STATUS: 0x80080783, reg.CTRL: 0x140240}
        self.log: list[str] = []
        self.held: list[bytes] = []  # frames that no descriptor was free for
        self.sending = True
        self._address = self._bar = self._command = 0
        self._cause = 0

    # --- RAM and interrupts ---

    def read_memory(self, address: int, size: int) -> bytearray:
        return self.memory[address : address + size]

    def write_memory(self, address: int, data: bytes) -> None:
        self.memory[address : address + len(data)] = data

    def wait_interrupt(self, lines: int = LINE, timeout: float | None = None) -> int:
        raised = self._cause & self.registers.get(reg.IMS, 0) != 0 and lines & LINE
        assert raised or timeout is not None, "the guest waits for what does not come"
        return raised

    # --- configuration ---

    def out32(self, port: int, value: int) -> None:
        if port == 0xCF8:
            self._address = value
        elif self._address & 0xFC == 0x10:
            self._bar = value & -reg.MMIO_SIZE
        elif self._address & 0xFC == 0x04:
            self._command = value

    def in32(self, port: int) -> int:
        assert port == 0xCFC
        if self._address >> 11 & 0x1F != SLOT_NUMBER:
            return 0xFFFF_FFFF
        return {0: 0x100E8086, 4: self._command, 0x10: self._bar, 0x3C: 0x0100}[
            self._address & 0xFC
        ]

    # --- registers ---

    def load32(self, address: int) -> int:
        register = address - self._bar
        self._note("read", register)
        if register == reg.EERD:
            word = self.registers[register] >> reg.EERD_ADDRESS_SHIFT
            data = int.from_bytes(MAC[2 * word : 2 * word + 2], "little")
            return data << reg.EERD_DATA_SHIFT | reg.EERD_DONE
        if register == reg.ICR:
            cause, self._cause = self._cause, 0
            return cause
        return self.registers.get(register, 0)

    def store32(self, address: int, value: int) -> None:
        assert self._command & 6 == 6, "expected memory decoding and bus mastering"
        register = address - self._bar
        self._note("write", register)
        if register == reg.IMC:
            self.registers[reg.IMS] = self.registers.get(reg.IMS, 0) & ~value
        elif register == reg.IMS:
            self.registers[reg.IMS] = self.registers.get(reg.IMS, 0) | value
        else:
            self.registers[register] = value
        if register == reg.TDT and self.sending:
            self.send()
        elif register == reg.RDT:
            self.arrive()

    def fill(self, address: int, count: int, value: int, size: int = 1) -> None:
        assert (value, size) == (0, 4)

    def _note(self, what: str, register: int) -> None:
        names = {getattr(reg, name): name for name in ("ICR", "IMC", "IMS", "ITR", "RDT", "TDT")}
        names[reg.STATUS] = "STATUS"
        if register in names:
            self.log.append(f"{what} {names[register]}")

    # --- the card's work ---

    def send(self) -> None:
        """Send what lies before the tail."""
        frames = []
        while self._head(reg.TDH) != self.registers[reg.TDT]:
            at, (address, length, _, status, _, _) = self._descriptor(memory.TX_RING, reg.TDH)
            assert status == 0, "a descriptor that was not cleaned"
            frames.append(bytes(self.memory[address : address + length]))
            self.memory[at + 12] |= 1
            self._advance(reg.TDH)
        if frames:
            self._cause |= reg.INT_TXDW | reg.INT_TXQE
            self.wire(frames)

    def arrive(self, *frames: bytes) -> None:
        """Frames come from the wire; they wait until there are descriptors for them."""
        self.held += frames
        while self.held and self._head(reg.RDH) != self.registers[reg.RDT]:
            frame = self.held.pop(0)
            at, (address, _, _, status, _, _) = self._descriptor(memory.RX_RING, reg.RDH)
            assert status == 0, "a descriptor that was not emptied"
            padded = frame.ljust(60, b"\0")
            self.memory[address : address + SLOT] = padded.ljust(SLOT, b"\xee")
            self.memory[at : at + 16] = _DESCRIPTOR.pack(address, len(padded), 0, 7, 0, 0)
            self._advance(reg.RDH)
            self._cause |= reg.INT_RXT0

    def _head(self, register: int) -> int:
        return self.registers.get(register, 0)

    def _advance(self, register: int) -> None:
        self.registers[register] = (self._head(register) + 1) % SLOTS

    def _descriptor(self, ring: int, head: int) -> tuple[int, tuple[int, ...]]:
        at = ring + 16 * self._head(head)
        return at, _DESCRIPTOR.unpack_from(self.memory, at)
