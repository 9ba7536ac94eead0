"""A serial port of a PC: a 16550A with its FIFOs.

Register names: National Semiconductor PC16550D data sheet. What they answer follows QEMU 7.2's
`isa-serial` at the end of a line without modem signals: a byte is sent in no time, so that the
transmitter is always empty when the guest looks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from coalesced.devices.bus.device import Clock, StateValue, Timer
from coalesced.devices.bus.narrow_registers import byte_registers
from coalesced.devices.bus.region import Region

PORTS: Final = {0x3F8: 4, 0x2F8: 3, 0x3E8: 4, 0x2E8: 3}
"""The ISA interrupts of COM1 to COM4 by their ports."""
BAUD_BASE: Final = 115200
SECOND: Final = 1_000_000_000
FIFO_SIZE: Final = 16

RBR: Final = 0  # read; written it is the THR; with DLAB both are the low byte of the divisor
IER: Final = 1  # with DLAB the high byte of the divisor
IIR: Final = 2  # read; written it is the FCR
LCR: Final = 3
MCR: Final = 4
LSR: Final = 5
MSR: Final = 6
SCR: Final = 7

IER_DATA: Final = 0x01
IER_EMPTY: Final = 0x02
IER_STATUS: Final = 0x04
IER_MODEM: Final = 0x08
IIR_NONE: Final = 0x01
IIR_EMPTY: Final = 0x02
IIR_DATA: Final = 0x04
IIR_STATUS: Final = 0x06
IIR_TIMEOUT: Final = 0x0C
IIR_FIFOS: Final = 0xC0
FCR_ENABLE: Final = 0x01
FCR_CLEAR_RECEIVER: Final = 0x02
FCR_CLEAR_TRANSMITTER: Final = 0x04
FCR_STORED: Final = 0xC9
LCR_LENGTH: Final = 0x03
LCR_STOP: Final = 0x04
LCR_PARITY: Final = 0x08
LCR_DLAB: Final = 0x80
MCR_DTR: Final = 0x01
MCR_RTS: Final = 0x02
MCR_OUT: Final = 0x0C
MCR_OUT2: Final = 0x08
MCR_LOOP: Final = 0x10
LSR_DATA: Final = 0x01
LSR_OVERRUN: Final = 0x02
LSR_ERRORS: Final = 0x1E
LSR_BREAK: Final = 0x10
LSR_EMPTY: Final = 0x60
"""THRE and TEMT."""
MSR_READY: Final = 0xB0
"""DCD, DSR and CTS."""
_TRIGGERS: Final = (1, 4, 8, 14)
_TIMEOUT_CHARACTERS: Final = 4


class Uart:
    """Eight ports from `base` on.

    None of its writes is coalesced. That of THR could be, where the guest polls: the next read of
    LSR drains it. But a driver by interrupts waits, without another access, for the one that says
    that the byte is gone, and what stands on a console would be as old as the last exit.
    """

    name = "isa-serial"

    def __init__(self, base: int | None = None, irq: int | None = None, index: int = 0) -> None:
        """`index` 0 to 3 stands for COM1 to COM4; `base`: another first port.

        `irq`: ISA interrupt 0 to 15, by default that of the port. Raises ValueError.
        """
        if not 0 <= index < len(PORTS):
            raise ValueError(f"isa-serial: expected an index of 0 to 3, got {index}")
        base = list(PORTS)[index] if base is None else base
        if not 0 <= base <= 0xFFF8:
            raise ValueError(f"isa-serial: expected ports of 0 to 0xffff, got {base:#x}")
        self.irq = PORTS.get(base, 4) if irq is None else irq
        if not 0 <= self.irq < 16:
            raise ValueError(f"isa-serial: expected an ISA interrupt of 0 to 15, got {irq}")
        self.send: Callable[[bytes], object] = lambda _data: None
        """Takes what the guest sends."""
        self.on_room: Callable[[], None] = lambda: None
        """Called when there may be room for `receive` again: after a read, or a cleared FIFO."""
        self._clock: Clock | None = None
        self._set_irq: Callable[[int, bool], None] = lambda _line, _level: None
        self._alarm: Timer | None = None
        self._fcr = 0
        self._received: deque[int] = deque()
        self.reset()
        self.legacy_memory: list[tuple[int, Region, int]] = []
        self.legacy_ports: list[tuple[int, Region, int]] = [
            (base, byte_registers("serial", 8, self._read, self._write), 0)
        ]

    def attach(self, clock: Clock, set_irq: Callable[[int, bool], None]) -> None:
        """Join it to a machine's clock and ISA interrupts."""
        self._clock, self._set_irq = clock, set_irq

    def reset(self) -> None:
        """As after power-on: 9,600 baud, no interrupts.

        As in QEMU the FIFOs stay on, but IIR shows them only after the next write of FCR.
        """
        self._shown = 0  # bits of IIR about FIFOs
        self._ier = self._lcr = self._scr = self._rbr = 0
        self._mcr, self._lsr, self._divisor = MCR_OUT2, LSR_EMPTY, 12
        self._cause = IIR_NONE
        self._sent = self._timed_out = False  # causes that an access takes back
        self._received.clear()
        self._set_alarm(False)
        self._set_irq(self.irq, False)

    def state(self) -> Mapping[str, StateValue]:
        """The registers, and what waits to be read."""
        now = (self._ier, self._fcr, self._lcr, self._mcr, self._lsr, self._scr, self._rbr)
        divisor = self._divisor.to_bytes(2, "little")
        return {
            "registers": bytes((*now, self._sent, self._shown)) + divisor,
            "fifo": bytes(self._received),
        }

    # --- the line ---

    def room(self) -> int:
        """Bytes that `receive` would take now."""
        if self._mcr & MCR_LOOP:
            return 0
        return FIFO_SIZE - len(self._received) if self._fifos else int(not self._lsr & LSR_DATA)

    def receive(self, data: bytes) -> int:
        """Bytes from the other end of the line, in order; how many were taken, 0 to all."""
        taken = data[: self.room()]
        for value in taken:
            self._take(value)
        return len(taken)

    @property
    def _fifos(self) -> bool:
        return bool(self._fcr & FCR_ENABLE)

    def _take(self, value: int) -> None:
        """A byte has come in; a byte too many is lost, or without FIFOs the one before."""
        full = len(self._received) >= FIFO_SIZE if self._fifos else self._lsr & LSR_DATA
        if full:
            self._lsr |= LSR_OVERRUN
        if not self._fifos:
            self._rbr = value
        elif not full:
            self._received.append(value)
        self._lsr |= LSR_DATA
        if self._fifos:
            self._set_alarm(True)
        self._update()

    def _set_alarm(self, wanted: bool) -> None:
        """Of bytes that wait for four characters' time below the trigger level."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if wanted and self._clock is not None:
            due = self._clock.now() + _TIMEOUT_CHARACTERS * self._character_time()
            self._alarm = self._clock.call_at(due, self._time_out)

    def _character_time(self) -> int:
        """Nanoseconds."""
        bits = 7 + (self._lcr & LCR_LENGTH) + bool(self._lcr & LCR_STOP)
        bits += bool(self._lcr & LCR_PARITY)
        return SECOND * (self._divisor or 1) // BAUD_BASE * bits

    def _time_out(self) -> None:
        self._alarm = None
        if self._received:
            self._timed_out = True
            self._update()

    # --- interrupts ---

    def _update(self) -> None:
        """Find the cause of the highest priority, and drive the interrupt."""
        enough = not self._fifos or len(self._received) >= _TRIGGERS[self._fcr >> 6]
        if self._ier & IER_STATUS and self._lsr & LSR_ERRORS:
            self._cause = IIR_STATUS
        elif self._ier & IER_DATA and self._timed_out:
            self._cause = IIR_TIMEOUT
        elif self._ier & IER_DATA and self._lsr & LSR_DATA and enough:
            self._cause = IIR_DATA
        elif self._ier & IER_EMPTY and self._sent:
            self._cause = IIR_EMPTY
        else:
            self._cause = IIR_NONE
        self._set_irq(self.irq, self._cause != IIR_NONE)

    # --- registers ---

    def _read(self, offset: int) -> int:
        if self._lcr & LCR_DLAB and offset <= IER:
            return self._divisor >> 8 * offset & 0xFF
        if offset == RBR:
            return self._read_data()
        if offset == IIR:
            return self._read_cause()
        if offset == LSR:
            return self._read_status()
        if offset == MSR:
            return self._modem()
        return {IER: self._ier, LCR: self._lcr, MCR: self._mcr, SCR: self._scr}[offset]

    def _read_data(self) -> int:
        if self._fifos:
            value = self._received.popleft() if self._received else 0
            self._timed_out = False
            if self._received:
                self._set_alarm(True)
        else:
            value = self._rbr
        if not self._fifos or not self._received:
            self._lsr &= ~(LSR_DATA | LSR_BREAK)
        self._update()
        if not self._mcr & MCR_LOOP:
            self.on_room()
        return value

    def _read_cause(self) -> int:
        value = self._cause | self._shown
        if self._cause == IIR_EMPTY:
            self._sent = False
            self._update()
        return value

    def _read_status(self) -> int:
        value = self._lsr
        self._lsr &= ~(LSR_BREAK | LSR_OVERRUN)
        if value != self._lsr:
            self._update()
        return value

    def _modem(self) -> int:
        """The other end's signals; in a loop this end's: OUT2, OUT1, DTR, RTS."""
        mcr = self._mcr
        if not mcr & MCR_LOOP:
            return MSR_READY
        return (mcr & MCR_OUT) << 4 | (mcr & MCR_DTR) << 5 | (mcr & MCR_RTS) << 3

    def _write(self, offset: int, value: int) -> None:
        if self._lcr & LCR_DLAB and offset <= IER:
            kept = self._divisor & 0xFF << 8 * (1 - offset)
            self._divisor = kept | value << 8 * offset
        elif offset == RBR:
            self._write_data(value)
        elif offset == IER:
            self._write_enables(value & 0x0F)
        elif offset == IIR:
            self._write_fifos(value)
        elif offset == LCR:
            self._lcr = value
        elif offset == MCR:
            self._mcr = value & 0x1F
            self.on_room()  # a loop may have ended
        elif offset == SCR:
            self._scr = value

    def _write_data(self, value: int) -> None:
        """The byte leaves at once, which raises an interrupt."""
        self._sent = False
        self._update()
        self._sent = True
        self._update()
        if self._mcr & MCR_LOOP:
            self._take(value)
        else:
            self.send(bytes((value,)))

    def _write_enables(self, value: int) -> None:
        changed = self._ier ^ value
        self._ier = value
        if changed & IER_EMPTY:
            self._sent = bool(value & IER_EMPTY)
        if changed:
            self._update()

    def _write_fifos(self, value: int) -> None:
        """Turning the FIFOs on or off clears them."""
        if (value ^ self._fcr) & FCR_ENABLE:
            value |= FCR_CLEAR_RECEIVER | FCR_CLEAR_TRANSMITTER
        if value & FCR_CLEAR_RECEIVER:
            self._lsr &= ~(LSR_DATA | LSR_BREAK)
            self._timed_out = False
            self._set_alarm(False)
            self._received.clear()
        if value & FCR_CLEAR_TRANSMITTER:
            self._sent = True
        self._fcr = value & FCR_STORED
        self._shown = IIR_FIFOS if self._fifos else 0
        self._update()
        if value & FCR_CLEAR_RECEIVER:
            self.on_room()
