"""The 82540EM on PCI: its two BARs, and the connections between its parts.

Registers answer as dwords, whatever part of them is accessed, as QEMU 7.2's do; wider and
unaligned accesses are cut into aligned ones of at most four bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from coalesced.devices.bus.pci import COMMAND, Bar, PciFunction
from coalesced.devices.bus.region import Region
from coalesced.devices.e1000 import registers as reg
from coalesced.devices.e1000.budget import Budget
from coalesced.devices.e1000.eeprom import Eeprom
from coalesced.devices.e1000.interrupts import Interrupts
from coalesced.devices.e1000.phy import MDIC_INT_EN, Phy
from coalesced.devices.e1000.receive import Receiver
from coalesced.devices.e1000.statistics import CLEARED_BY_READ, HIGH_HALVES, Statistics
from coalesced.devices.e1000.transmit import Transmitter

if TYPE_CHECKING:
    from coalesced.devices.bus.device import StateValue, Timer, Wire

ROM_SIZE: Final = 0x40000
"""Of iPXE on QEMU's card; this one has none, only the register for it."""

_MS: Final = 1_000_000  # nanoseconds
AUTONEGOTIATION_MS: Final = 500
HOLD_OFF_MS: Final = 1000
"""Nanoseconds without reception after a write of RCTL."""

ReadRegister = Callable[[], int]
WriteRegister = Callable[[int], None]


class E1000(PciFunction):
    """QEMU's `e1000`: 8086:100e. Without a wire, its frames vanish."""

    def __init__(self, mac: bytes = reg.RECEIVE_ADDRESS, tdt_posted: bool = False) -> None:
        """`mac`: the six bytes of its address (ValueError). `tdt_posted`: a write of TDT, which
        starts to send, is posted: the guest does not wait until the frames have left."""
        if len(mac) != 6:
            raise ValueError(f"e1000: expected an address of 6 bytes, got {len(mac)}")
        self.mmio = Region(
            "e1000-mmio",
            reg.MMIO_SIZE,
            self.read,
            self.write,
            coalesced=reg.coalesced_ranges(),
            flush=True,
            register=reg.register_name,
            posted=((reg.TDT, 4),) if tdt_posted else (),
        )
        ports = Region("e1000-io", reg.IO_SIZE, _read_port, _write_port)
        super().__init__(
            name="e1000",
            vendor_id=0x8086,
            device_id=0x100E,
            class_code=0x020000,
            revision=0x03,
            bars={0: Bar(self.mmio), 1: Bar(ports, io=True)},
            interrupt_pin=1,
            rom_size=ROM_SIZE,
        )
        self.mac = mac
        self.wire: Wire | None = None
        self.registers = reg.RegisterFile()
        self.registers.reset(mac)
        self.statistics = Statistics(self.registers)
        self.interrupts = Interrupts(self.registers, self.set_interrupt, lambda: self.clock)
        self.eeprom = Eeprom(mac)
        self.phy = Phy(self._restart_autonegotiation)
        self.budget = Budget(lambda: self.dma_accesses)
        self.receiver = Receiver(self, self.registers, self.statistics, self.budget)
        self.transmitter = Transmitter(
            self,
            self.registers,
            self.statistics,
            self.interrupts,
            self.budget,
            self._send,
            # A frame that is looped back may overwrite the next descriptors or their data.
            lambda: not self.phy.loopback,
            lambda: self._soon(self.resume_transmit),
        )
        self._engaged = False  # register accesses come from the card itself
        self._unasked = False  # the next frame comes whether or not it can be received
        self._receive_break: Timer | None = None  # before the next turn of receiving
        self._hold_off: Timer | None = None
        self._autonegotiation: Timer | None = None
        self._masks = reg.write_masks()
        self._readers = self._make_readers()
        self._writers = self._make_writers()

    def connect(self, wire: Wire) -> None:
        """Plug the cable in."""
        self.wire = wire

    # --- registers ---

    def _make_readers(self) -> dict[int, ReadRegister]:
        registers, statistics = self.registers, self.statistics
        counters = CLEARED_BY_READ | HIGH_HALVES
        return {
            reg.ICR: self.interrupts.take,
            reg.ICS: lambda: registers[reg.ICR],
            reg.EECD: self.eeprom.read_eecd,
            reg.EERD: lambda: self.eeprom.read_eerd(registers[reg.EERD]),
            **{at: partial(statistics.read, at) for at in counters},
        }

    def _make_writers(self) -> dict[int, WriteRegister]:
        return {
            reg.ICR: self.interrupts.clear,
            reg.ICS: self.interrupts.add,
            reg.IMS: self._write_ims,
            reg.IMC: self._write_imc,
            reg.EECD: self.eeprom.write_eecd,
            reg.MDIC: self._write_mdic,
            reg.RCTL: self._write_rctl,
            reg.RDT: self._write_rdt,
            reg.TCTL: self._write_tctl,
            reg.TDT: self._write_tdt,
        }

    def read(self, offset: int, size: int) -> int:
        """Read registers. The card's own DMA does not reach them: it reads 0, as in QEMU 7.2.22."""
        if self._engaged:
            return 0
        # Inlined here and in write: a call costs as much as the register.
        if self.transmitter.pause is not None or self._receive_break is not None:
            self._catch_up()
        if size == 4 and not offset & 3:
            reader = self._readers.get(offset)
            return self.registers[offset] if reader is None else reader()
        value = shift = 0
        for at, length in _pieces(offset, size):
            part = self._read_register(at & ~3) & (1 << 8 * length) - 1
            value |= part << shift
            shift += 8 * length
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        """Write registers; nothing happens where the card's own DMA does."""
        if self._engaged:
            return
        if self.transmitter.pause is not None or self._receive_break is not None:
            self._catch_up()
        self._engaged = True
        try:
            if size == 4 and not offset & 3:
                self._write_register(offset, value)
                return
            for at, length in _pieces(offset, size):
                self._write_register(at & ~3, value & (1 << 8 * length) - 1)
                value >>= 8 * length
        finally:
            self._engaged = False

    def _read_register(self, offset: int) -> int:
        reader = self._readers.get(offset)
        return self.registers[offset] if reader is None else reader()

    def _write_register(self, offset: int, value: int) -> None:
        writer = self._writers.get(offset)
        if writer is not None:
            writer(value)
        elif offset in self._masks:
            self.registers[offset] = value & self._masks[offset]

    def _write_ims(self, value: int) -> None:
        self.registers[reg.IMS] |= value
        self.interrupts.add(0)

    def _write_imc(self, value: int) -> None:
        self.registers[reg.IMS] &= ~value
        self.interrupts.add(0)

    def _write_mdic(self, value: int) -> None:
        value = self.phy.mdic(self.registers[reg.MDIC], value)
        self.registers[reg.MDIC] = value
        if value & MDIC_INT_EN:
            self.interrupts.add(reg.INT_MDAC)

    def _write_tctl(self, value: int) -> None:
        self.registers[reg.TCTL] = value
        self.transmitter.run()

    def _write_tdt(self, value: int) -> None:
        self.registers[reg.TDT] = value & 0xFFFF
        self.transmitter.run()

    def _write_rctl(self, value: int) -> None:
        self.registers[reg.RCTL] = value
        if self._hold_off is not None:
            self._hold_off.cancel()
        self._hold_off = self._in_ms(HOLD_OFF_MS, self._hold_off_ends)

    def _write_rdt(self, value: int) -> None:
        self.registers[reg.RDT] = value & 0xFFFF
        if self.receiver.has_buffer():
            self._receive_ready()

    # --- time ---

    def _in_ms(self, delay: int, call: Callable[[], None]) -> Timer:
        """Call after that many milliseconds; QEMU counts whole ones."""
        return self.clock.call_at((self.clock.now() // _MS + delay) * _MS, call)

    def _soon(self, call: Callable[[], None]) -> Timer:
        """Call in the card's next turn: later than now, since what is due at once runs in this."""
        return self.clock.call_at(self.clock.now() + _MS, call)

    def _catch_up(self) -> None:
        """A guest that reads the card's registers sees progress even while the clock is stopped."""
        if self.transmitter.pause is not None:
            self.resume_transmit()
        if self._receive_break is not None:
            self._go_on_receiving()

    def _hold_off_ends(self) -> None:
        self._hold_off = None
        self._receive_ready(timer=True)

    def _restart_autonegotiation(self) -> None:
        self.registers[reg.STATUS] &= ~reg.STATUS_LU
        self.phy.link_down()
        if self._autonegotiation is not None:
            self._autonegotiation.cancel()
        self._autonegotiation = self._in_ms(AUTONEGOTIATION_MS, self._negotiated)

    def _negotiated(self) -> None:
        self._autonegotiation = None
        self.registers[reg.STATUS] |= reg.STATUS_LU
        self.phy.negotiated()
        self.interrupts.add(reg.INT_LSC)
        self._receive_ready(timer=True)

    # --- wire ---

    def _send(self, frames: Sequence[bytes]) -> int:
        if self.phy.loopback:
            for frame in frames:
                self.receive((frame,))  # lost if it cannot be received
            return len(frames)
        return len(frames) if self.wire is None else self.wire.send(frames)

    def can_receive(self) -> bool:
        """As `Card.can_receive`."""
        return self._is_ready() or (
            self._unasked
            and self._receive_break is None
            and (self._hold_off is None or not self.receiver.is_listening())
        )

    def _is_ready(self) -> bool:
        receiver = self.receiver
        return (
            self._hold_off is None
            and self._receive_break is None
            and receiver.has_buffer()
            and receiver.is_enabled()
        )

    def receive(self, frames: Sequence[bytes]) -> int:
        """As `Card.receive`."""
        taken = causes = 0
        engaged, self._engaged = self._engaged, True
        if not engaged:
            self.budget.begin()
        try:
            while taken < len(frames) and self.can_receive():
                many, found = self._take(frames, taken)
                self._unasked = False
                taken += many
                causes |= found
                if self.receiver.busy or self.budget.spent:
                    self._receive_break = self._soon(self._go_on_receiving)
        finally:
            self._engaged = engaged
        if causes:
            self.interrupts.add(causes)
        return taken

    def _go_on_receiving(self) -> None:
        """The pause is over."""
        if self._receive_break is not None:
            self._receive_break.cancel()
            self._receive_break = None
        self.budget.begin()
        engaged, self._engaged = self._engaged, True
        try:
            causes = self.receiver.go_on()
        finally:
            self._engaged = engaged
        if causes:
            self.interrupts.add(causes)
        if self.receiver.busy:
            self._receive_break = self._soon(self._go_on_receiving)
        elif self.wire is not None:
            self.wire.receive_ready(timer=True)

    def resume_transmit(self) -> None:
        """As `Card.resume_transmit`."""
        engaged, self._engaged = self._engaged, True
        try:
            self.transmitter.resume()
        finally:
            self._engaged = engaged

    def _take(self, frames: Sequence[bytes], first: int) -> tuple[int, int]:
        """Take some frames from index `first` on: (how many, causes)."""
        receiver = self.receiver
        if not receiver.is_listening():
            return 1, 0
        many, causes = receiver.take_many(frames, first) if self._is_ready() else (0, 0)
        return (many, causes) if many else (1, receiver.take(frames[first]))

    def _receive_ready(self, timer: bool = False) -> None:
        """Report to the wire that the card can receive.

        QEMU 7.2 then hands over the first one that waits without asking whether it can be received.
        It is lost where the card does not listen, and an overrun where no descriptor is free.
        """
        if self.wire is None:
            return
        self.budget.begin()
        self._unasked = True
        try:
            self.wire.receive_ready(timer)
        finally:
            self._unasked = False

    # --- function ---

    def config_write(self, offset: int, size: int, value: int) -> None:
        """Write configuration space; a card that becomes a bus master can receive again."""
        super().config_write(offset, size, value)
        if offset <= COMMAND < offset + size and self.is_master:
            self._receive_ready()

    def reset(self) -> None:
        """Everything as after power-on, except for the EEPROM's wires."""
        super().reset()
        for timer in (self._hold_off, self._autonegotiation, self._receive_break):
            if timer is not None:
                timer.cancel()
        self._hold_off = self._autonegotiation = self._receive_break = None
        self.interrupts.reset()
        self.registers.reset(self.mac)
        self.phy.reset()
        self.receiver.reset()
        self.transmitter.reset()

    def state(self) -> Mapping[str, StateValue]:
        """Configuration space, registers, PHY, EEPROM wires and the frame that is being sent."""
        registers = reg.RegisterFile(self.registers)
        registers[reg.STATUS] &= ~reg.STATUS_LU  # follows the clock
        return {
            **super().state(),
            "registers": registers.dump(),
            "phy": struct.pack(f"<{len(self.phy.state())}H", *self.phy.state()),
            "eeprom": struct.pack("<5I", *self.eeprom.state()),
            "transmit": self.transmitter.state(),
            "receive": self.receiver.state(),
            "transmit_delayed": int(self.interrupts.transmit_delayed),
        }


def _pieces(offset: int, size: int) -> list[tuple[int, int]]:
    """Naturally aligned accesses of at most four bytes that cover the range."""
    pieces, end = [], offset + size
    while offset < end:
        length = 4
        while offset % length or offset + length > end:
            length //= 2
        pieces.append((offset, length))
        offset += length
    return pieces


def _read_port(_offset: int, _size: int) -> int:
    return 0


def _write_port(_offset: int, _size: int, _value: int) -> None:
    """IOADDR and IODATA do nothing in QEMU."""
