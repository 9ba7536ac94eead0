"""Ports at which QEMU's `pc` has a device even with -nodefaults, and this machine has none.

They read as all ones here, as any port that nothing answers.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Absent(NamedTuple):
    """A range of ports, first to last, and the device that they belong to."""

    first: int
    last: int
    device: str


ABSENT_PORTS: Final = (
    Absent(0x170, 0x177, "IDE, second channel"),
    Absent(0x1F0, 0x1F7, "IDE, first channel"),
    Absent(0x376, 0x376, "IDE, control of the second channel"),
    Absent(0x3F1, 0x3F5, "floppy disk controller"),
    Absent(0x3F6, 0x3F6, "IDE, control of the first channel"),
    Absent(0x3F7, 0x3F7, "floppy disk controller, direction"),
    Absent(0x5658, 0x5658, "VMware's back door"),
    Absent(0xAE00, 0xAE17, "PCI hot-plug of ACPI"),
    Absent(0xAF00, 0xAF1F, "CPU hot-plug of ACPI"),
    Absent(0xAFE0, 0xAFE3, "general-purpose events of ACPI"),
    Absent(0xB100, 0xB13F, "SMBus of the PIIX4"),
)


def device_at(port: int) -> str | None:
    """The device that QEMU's `pc` has at a port where nothing is here; None for no device."""
    return next((each.device for each in ABSENT_PORTS if each.first <= port <= each.last), None)
