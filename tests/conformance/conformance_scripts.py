"""All scripts, and where this program differs from QEMU on purpose."""

from __future__ import annotations

from typing import NamedTuple

import conformance_chips
import conformance_cirrus
import conformance_e1000_counters
import conformance_e1000_interrupts
import conformance_e1000_receive
import conformance_e1000_registers
import conformance_e1000_transmit
import conformance_pc
import conformance_vga
from conformance_script import Script

SCRIPTS: tuple[Script, ...] = (
    *conformance_pc.SCRIPTS,
    *conformance_chips.SCRIPTS,
    *conformance_vga.SCRIPTS,
    *conformance_cirrus.SCRIPTS,
    *conformance_e1000_registers.SCRIPTS,
    *conformance_e1000_transmit.SCRIPTS,
    *conformance_e1000_receive.SCRIPTS,
    *conformance_e1000_interrupts.SCRIPTS,
    *conformance_e1000_counters.SCRIPTS,
)


class Difference(NamedTuple):
    """A reply that is ours and not QEMU's."""

    script: str
    command: str
    theirs: str
    ours: str
    why: str


DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        "pc-differences",
        "inl 0x70",
        "OK 0x5aff5aff",
        "OK 0xffff5aff",
        "QEMU carries an access on past the end of a region: the RTC's two ports come twice. "
        "Here each port is what answers at that port.",
    ),
    Difference(
        "pc-differences",
        "read 0xffff0 0x4",
        "OK 0xea5be000",
        "OK 0x00000000",
        "QEMU has SeaBIOS there; this machine has no firmware, and no memory in its place.",
    ),
    Difference(
        "pc-differences",
        "inw 0xcfc",
        "OK 0x8086",
        "OK 0xffff",
        "QEMU's PIIX3 has an IDE controller as function 1; this machine has none.",
    ),
    Difference(
        "pc-differences",
        "inl 0xcfc",
        "OK 0x80808080",
        "OK 0xb0b0a0a",
        "Without firmware nobody leads PCI interrupts anywhere on QEMU. Here a guest needs no "
        "firmware: they are led where SeaBIOS leads them.",
    ),
    Difference(
        "pc-differences",
        "inw 0xa0",
        "OK 0x0081",
        "OK 0x0000",
        "A write of the routes of PCI interrupts lowers all ISA interrupts on QEMU, also those of "
        "other devices, so that the next raise is an edge. Here lines are shared by OR.",
    ),
    Difference(
        "rtc-alarm-differences",
        "inw 0x71",
        "OK 0xff30",
        "OK 0xff10",
        "QEMU makes a number of the alarm's hour: 24 is 0, an afternoon's hour 80 more than "
        "a morning's. The chip compares bytes: an hour that does not exist never comes.",
    ),
    Difference(
        "rtc-divider-differences",
        "inw 0x71",
        "OK 0xffc0",
        "OK 0xff00",
        "QEMU's periods go on while the divider that they are taken from is held in reset.",
    ),
    Difference(
        "pc-differences",
        "inb 0x3f4",
        "OK 0x0080",
        "OK 0x00ff",
        "A floppy disk controller of QEMU's: not on this machine. `vmm.absent` lists its like.",
    ),
    Difference(
        "pc-differences",
        "inw 0x4d0",
        "OK 0x0808",
        "OK 0x0208",
        "QEMU carries an access on past the end of a region: a register of one byte comes twice.",
    ),
    Difference(
        "pc-differences",
        "read 0x2000 0x5",
        "OK 0x0102034400",
        "OK 0x0102030000",
        "A b64write of fewer bytes than told: QEMU writes the rest from behind its data.",
    ),
    Difference(
        "e1000-differences",
        "frames",
        "OK ",
        f"OK  {'5a' * 16}",
        "QEMU sends a frame without a byte as an empty datagram, takes that for a full socket, and "
        "never sends again.",
    ),
)
