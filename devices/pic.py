"""The two interrupt controllers of a PC, Intel 8259A, with the edge/level registers of a PIIX3.

Register names: Intel 8259A data sheet. What they answer follows QEMU 7.2's `isa-i8259`: an edge
that nobody acknowledged is kept when its line falls, and a poll acknowledges one controller alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from coalesced.devices.bus.device import StateValue
from coalesced.devices.bus.narrow_registers import byte_registers
from coalesced.devices.bus.region import Region

MASTER_PORT: Final = 0x20
SLAVE_PORT: Final = 0xA0
MASTER_ELCR: Final = 0x4D0
SLAVE_ELCR: Final = 0x4D1
CASCADE: Final = 2
"""The input of the first controller that the second one drives."""
LINES: Final = 16

ICW1: Final = 0x10
ICW1_IC4: Final = 0x01
ICW1_SINGLE: Final = 0x02
ICW4_AUTO_EOI: Final = 0x02
ICW4_SPECIAL_NESTED: Final = 0x10
OCW3: Final = 0x08
OCW3_ISR: Final = 0x01
OCW3_READ: Final = 0x02
OCW3_POLL: Final = 0x04
OCW3_SMM: Final = 0x20
OCW3_ESMM: Final = 0x40
POLL_INTERRUPT: Final = 0x80

# Bits 7 to 5 of OCW2.
OCW2_EOI: Final = 0x20
OCW2_SPECIFIC: Final = 0x40
OCW2_ROTATE: Final = 0x80

# The lines of the ELCR that may be level-triggered: not timer, keyboard, cascade, clock and FPU.
MASTER_LEVELS: Final = 0xF8
SLAVE_LEVELS: Final = 0xDE
SPURIOUS: Final = 7

# The kind of the next write to the data port.
_MASK, _ICW2, _ICW3, _ICW4 = range(4)


class Controller:
    """One 8259A. It drives its INT output anew whenever a register or an input was set."""

    def __init__(self, name: str, levels: int, interrupt: Callable[[bool], None]) -> None:
        """`levels`: the inputs that may be level-triggered; `interrupt` gets the INT output."""
        self.region = byte_registers(name, 2, self._read, self._write)
        self.elcr_region = byte_registers("elcr", 1, self._read_elcr, self._write_elcr)
        self._levels = levels
        self._interrupt = interrupt
        self.irr = 0
        self.before_access: Callable[[], None] = lambda: None
        self.reset()

    def reset(self) -> None:
        """Every input is an edge again; the controller asks for no initialisation."""
        self.elcr = 0
        self._initialise()

    def _initialise(self) -> None:
        self.irr &= self.elcr
        self.inputs = 0  # their levels, from which an edge is seen
        self.imr = self.isr = self.base = 0
        self._lowest = 7  # the input of the lowest priority
        self._read_isr = self._polled = self._special_mask = False
        self._auto_eoi = self._rotates = self._nested = False
        self._expects, self._expects_icw4, self._single = _MASK, False, False
        self._update()

    def state(self, clocked: int) -> bytes:
        """All registers; of the inputs in `clocked`, which follow the clock, no requests."""
        flags = (
            self._read_isr,
            self._polled,
            self._special_mask,
            self._auto_eoi,
            self._rotates,
            self._nested,
            self._expects,
            self._expects_icw4,
            self._single,
        )
        seen = (self.irr & ~clocked, self.inputs & ~clocked, self.imr, self.isr, self.base)
        return bytes((*seen, self.elcr, self._lowest, *flags))

    # --- inputs and output ---

    def set_input(self, number: int, level: bool) -> None:
        """Drive input 0 to 7."""
        bit = 1 << number
        if level:
            if self.elcr & bit or not self.inputs & bit:
                self.irr |= bit
            self.inputs |= bit
        else:
            self.inputs &= ~bit
            if self.elcr & bit:
                self.irr &= ~bit
        self._update()

    def pending(self) -> int | None:
        """The input that INT is raised for; None while it is not."""
        request = self._highest(self.irr & ~self.imr)
        if request is None:
            return None
        served = self.isr & ~self.imr if self._special_mask else self.isr
        if self._nested:
            served &= ~self.nested_input
        highest = self._highest(served)
        if highest is not None and self._rank(highest) <= self._rank(request):
            return None
        return request

    nested_input = 0
    """The bit of the input that interrupts itself in special fully nested mode."""

    def acknowledge(self, number: int) -> None:
        """The interrupt of an input is taken."""
        bit = 1 << number
        if not self._auto_eoi:
            self.isr |= bit
        elif self._rotates:
            self._lowest = number
        if not self.elcr & bit:
            self.irr &= ~bit
        self._update()

    def _rank(self, number: int) -> int:
        """0 for the input of the highest priority, 7 for that of the lowest."""
        return (number - self._lowest - 1) & 7

    def _highest(self, bits: int) -> int | None:
        """The input of the highest priority among those whose bits are set."""
        if not bits:
            return None
        return min((n for n in range(8) if bits >> n & 1), key=self._rank)

    def _update(self) -> None:
        self._interrupt(self.pending() is not None)

    # --- registers ---

    def _read(self, offset: int) -> int:
        self.before_access()
        if self._polled:
            self._polled = False
            return self._poll()
        if offset:
            return self.imr
        return self.isr if self._read_isr else self.irr

    def _poll(self) -> int:
        number = self.pending()
        if number is None:
            return 0
        self.acknowledge(number)
        return number | POLL_INTERRUPT

    def _write(self, offset: int, value: int) -> None:
        self.before_access()
        if offset:
            self._write_data(value)
        elif value & ICW1:
            self._initialise()
            self._expects = _ICW2
            self._expects_icw4 = bool(value & ICW1_IC4)
            self._single = bool(value & ICW1_SINGLE)
        elif value & OCW3:
            self._write_ocw3(value)
        else:
            self._write_ocw2(value)

    def _write_data(self, value: int) -> None:
        last = _ICW4 if self._expects_icw4 else _MASK
        if self._expects == _MASK:
            self.imr = value
            self._update()
        elif self._expects == _ICW2:
            self.base = value & 0xF8
            self._expects = last if self._single else _ICW3
        elif self._expects == _ICW3:
            self._expects = last
        else:
            self._nested = bool(value & ICW4_SPECIAL_NESTED)
            self._auto_eoi = bool(value & ICW4_AUTO_EOI)
            self._expects = _MASK

    def _write_ocw3(self, value: int) -> None:
        if value & OCW3_POLL:
            self._polled = True
        if value & OCW3_READ:
            self._read_isr = bool(value & OCW3_ISR)
        if value & OCW3_ESMM:
            self._special_mask = bool(value & OCW3_SMM)

    def _write_ocw2(self, value: int) -> None:
        rotates, specific = bool(value & OCW2_ROTATE), bool(value & OCW2_SPECIFIC)
        if value & OCW2_EOI:
            number = value & 7 if specific else self._highest(self.isr)
            if number is not None:
                self.isr &= ~(1 << number)
                if rotates:
                    self._lowest = number
                self._update()
        elif not specific:
            self._rotates = rotates
        elif rotates:
            self._lowest = value & 7
            self._update()

    def _read_elcr(self, _offset: int) -> int:
        return self.elcr

    def _write_elcr(self, _offset: int, value: int) -> None:
        self.elcr = value & self._levels


class I8259Pair:
    """Both controllers: ISA interrupts 0 to 15 in, INTR of the processor out.

    None of their writes may be queued: an end of interrupt or a mask decides at once whether INTR
    is raised, and a processor that runs on would take an interrupt that it has masked.
    """

    name = "isa-i8259"

    def __init__(self) -> None:
        self.on_intr: Callable[[bool], None] = lambda _level: None
        """Called on each change of the INTR pin."""
        self._intr = False
        self.master = Controller("pic", MASTER_LEVELS, self._set_intr)
        self.master.nested_input = 1 << CASCADE
        self.slave = Controller(
            "pic", SLAVE_LEVELS, lambda level: self.master.set_input(CASCADE, level)
        )
        self.legacy_memory: list[tuple[int, Region, int]] = []
        self.legacy_ports: list[tuple[int, Region, int]] = [
            (MASTER_PORT, self.master.region, 0),
            (SLAVE_PORT, self.slave.region, 0),
            (MASTER_ELCR, self.master.elcr_region, 0),
            (SLAVE_ELCR, self.slave.elcr_region, 0),
        ]

    def _set_intr(self, level: bool) -> None:
        if level != self._intr:
            self._intr = level
            self.on_intr(level)

    def before_access(self, call: Callable[[], None]) -> None:
        """Make a call before the guest accesses the registers, which brings inputs up to date."""
        self.master.before_access = self.slave.before_access = call

    def set_irq(self, line: int, level: bool) -> None:
        """Drive an ISA interrupt, 0 to 15."""
        controller = self.slave if line & 8 else self.master
        controller.set_input(line & 7, level)

    def acknowledge(self) -> int:
        """The processor takes the interrupt: its vector, 0 to 255.

        If the request has been withdrawn, it is that of input 7 of the same controller.
        """
        number = self.master.pending()
        if number is None:
            return self.master.base + SPURIOUS
        vector = self.master.base + number
        if number == CASCADE:
            of_slave = self.slave.pending()
            if of_slave is not None:
                self.slave.acknowledge(of_slave)
            vector = self.slave.base + (SPURIOUS if of_slave is None else of_slave)
        self.master.acknowledge(number)
        return vector

    def reset(self) -> None:
        """Both as after power-on."""
        self.slave.reset()
        self.master.reset()

    def state(self) -> Mapping[str, StateValue]:
        """The registers of both; not the requests of timer and clock, nor their cascade."""
        return {"master": self.master.state(1 | 1 << CASCADE), "slave": self.slave.state(1)}
