"""Devices of one's own, as a user would write them for `--device FILE.py:CLASS`."""

from __future__ import annotations

from collections.abc import Mapping

from coalesced.devices.bus.device import StateValue
from coalesced.devices.bus.pci import Bar, PciFunction
from coalesced.devices.bus.region import Region
from coalesced.hv.vcpu import Vcpu

BAR = 0xE000_0000


class Adder(PciFunction):
    """Adds up what is written to its first half; the second half reads as the sum."""

    def __init__(self) -> None:
        self.sum = 0
        registers = Region(
            "adder",
            0x1000,
            self.read,
            self.write,
            coalesced=((0x000, 0x800),),  # writes here may wait in the ring ...
            flush=True,  # ... until anybody else touches the region
        )
        super().__init__(
            name="adder",
            vendor_id=0x1234,
            device_id=0xADD0,
            class_code=0xFF0000,
            bars={0: Bar(registers)},
        )

    def read(self, _offset: int, _size: int) -> int:
        """The sum, everywhere."""
        return self.sum

    def write(self, offset: int, _size: int, value: int) -> None:
        """Add; in the second half: set."""
        self.sum = (self.sum + value if offset < 0x800 else value) & 0xFFFF_FFFF

    def state(self) -> Mapping[str, StateValue]:
        """With the sum."""
        return {**super().state(), "sum": self.sum}


class Bell(PciFunction):
    """A dword that drives INTA: its lowest bit. Writes are queued. A read of 0x13 raises."""

    def __init__(self, size: int = 0x100) -> None:
        region = Region("bell", size, self.read, self.write, coalesced=((0, 0x10),), flush=True)
        super().__init__(
            name="bell",
            vendor_id=0x1234,
            device_id=0xBE11,
            class_code=0xFF0000,
            bars={0: Bar(region)},
            interrupt_pin=1,
        )

    def read(self, offset: int, _size: int) -> int:
        """Its offset; the bell of 0x13 is broken."""
        if offset == 0x13:
            raise RuntimeError("no such bell")
        return offset

    def write(self, _offset: int, _size: int, value: int) -> None:
        """Ring, or stop ringing."""
        self.set_interrupt(bool(value & 1))


def add(vcpu: Vcpu) -> None:
    """The guest: put the Adder in slot 5 at BAR, and let it add up 500 numbers."""
    for register, value in ((0x10, BAR), (0x04, 2)):
        vcpu.out32(0xCF8, 0x8000_0000 | 5 << 11 | register)
        vcpu.out32(0xCFC, value)
    vcpu.fill(BAR, 500, 3, size=4)
    total = vcpu.load32(BAR + 0x800)
    if total != 1500:
        raise ValueError(f"the sum is {total}")
