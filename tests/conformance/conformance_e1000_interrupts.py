"""Scripts about the e1000's interrupts: causes, masks, the line, the throttle."""

from __future__ import annotations

from conformance_e1000 import (
    DATA,
    ON_WIRE,
    SLOT,
    descriptor,
    map_bars,
    read,
    send_setup,
    write,
)
from conformance_script import Lines, Script

from coalesced.devices.e1000 import registers as reg
from coalesced.devices.e1000 import transmit as tx

_ITR = 0xFFFF  # 16.8 ms
_AFTER_ITR = 30  # ms


def _line(lines: Lines) -> None:
    lines.config_read(SLOT, 0x06, 2)


def _interrupts(lines: Lines) -> None:
    """Causes, masks and the line; the throttle and what shortens it."""
    map_bars(lines)
    for register, value in (
        (reg.ICS, 0x10),
        (reg.IMS, 0x01),
        (reg.IMS, 0x30),
        (reg.IMC, 0x20),
        (reg.ICR, 0x0F),
        (reg.IMC, 0x10),
        (reg.IMS, 0x10),
        (reg.ICR, 0x10),
        (reg.ICS, 0xFFFFFFFF),
    ):
        write(lines, register, value)
        lines.wait(_AFTER_ITR)
        for other in (reg.ICS, reg.IMS, reg.IMC):
            read(lines, other)
        _line(lines)
    read(lines, reg.ICR)
    _line(lines)
    write(lines, reg.IMC, 0xFFFFFFFF)
    _throttled(lines)
    write(lines, reg.ICS, 1)
    read(lines, reg.ICR)
    write(lines, reg.ICS, 1)
    read(lines, reg.ICR)  # gone before the throttle's end
    lines.wait(_AFTER_ITR)
    _line(lines)
    lines.config_write(SLOT, 0x04, 0x407, 2)
    write(lines, reg.ICS, 1)
    lines.wait(_AFTER_ITR)
    lines.config_read(SLOT, 0x04)
    lines.frames()


def _throttled(lines: Lines) -> None:
    """Causes while the throttle runs, and delays that end it early."""
    write(lines, reg.IMS, 0x83)
    lines.wait(_AFTER_ITR)
    write(lines, reg.ITR, _ITR)
    send_setup(lines, 8)
    read(lines, reg.ICR)
    lines.wait(_AFTER_ITR)
    for tadv, rdtr, radv, flags, cause in (
        (0, 0, 0, 0, 0x80),  # the throttle alone
        (10, 0, 0, tx.IDE, 0),  # shortened by the delay of a transmit interrupt
        (10, 0, 0, 0, 0),
        (0, 1, 10, 0, 0x80),  # and of a receive interrupt
        (0, 0, 10, 0, 0x80),
    ):
        for register, value in ((reg.TADV, tadv), (reg.RDTR, rdtr), (reg.RADV, radv)):
            write(lines, register, value)
        if cause:
            write(lines, reg.ICS, cause)
        else:
            write(lines, reg.TDH, 0)
            descriptor(lines, 0, DATA, tx.EOP | tx.RS | flags | 60)
            write(lines, reg.TDT, 1)
        _line(lines)
        read(lines, reg.ICR)
        _line(lines)
        write(lines, reg.ICS, 0x01)
        lines.wait(3)
        _line(lines)
        lines.wait(_AFTER_ITR)
        _line(lines)
        read(lines, reg.ICR)
        lines.wait(_AFTER_ITR)


SCRIPTS = (Script("e1000-interrupts", ON_WIRE, _interrupts, network=True),)
