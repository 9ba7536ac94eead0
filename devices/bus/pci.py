"""Conventional PCI: the configuration space of a function; `pci_bus` joins functions.

Which bits stick and when a base address decodes follow QEMU 7.2's `pc` machine. Register names
and offsets: PCI Local Bus Specification 3.0, section 6.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from coalesced.devices.bus.address_space import Mapping as RegionMapping
from coalesced.devices.bus.device import Clock, Ram, StateValue
from coalesced.devices.bus.region import Region

if TYPE_CHECKING:
    from coalesced.devices.bus.pci_bus import PciBus

CONFIG_SIZE: Final = 256
BAR_COUNT: Final = 6

VENDOR_ID: Final = 0x00
DEVICE_ID: Final = 0x02
COMMAND: Final = 0x04
STATUS: Final = 0x06
REVISION_ID: Final = 0x08
CLASS_PROG: Final = 0x09
CACHE_LINE_SIZE: Final = 0x0C
BASE_ADDRESS_0: Final = 0x10
SUBSYSTEM_VENDOR_ID: Final = 0x2C
SUBSYSTEM_ID: Final = 0x2E
ROM_ADDRESS: Final = 0x30
INTERRUPT_LINE: Final = 0x3C
INTERRUPT_PIN: Final = 0x3D
FIRST_DEVICE_SPECIFIC: Final = 0x40

COMMAND_IO: Final = 0x0001
COMMAND_MEMORY: Final = 0x0002
COMMAND_MASTER: Final = 0x0004
COMMAND_SERR: Final = 0x0100
COMMAND_INTX_DISABLE: Final = 0x0400
COMMAND_MASK: Final = (
    COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER | COMMAND_SERR | COMMAND_INTX_DISABLE
)
STATUS_INTERRUPT: Final = 0x0008

BAR_IO: Final = 0x1
BAR_PREFETCHABLE: Final = 0x8
ROM_ENABLE: Final = 0x1
ROM_LEAST: Final = 2048
ROM_MOST: Final = 1 << 30
HEADER_TYPE: Final = 0x0E
HEADER_MULTIFUNCTION: Final = 0x80

BAR_PRIORITY: Final = 1
"""A BAR hides legacy regions of priority 0; among those of 1 the one mapped last answers."""

MEMORY_LIMIT: Final = 1 << 32
IO_LIMIT: Final = 1 << 16

_NO_BARS: Final[Mapping[int, Bar]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False)
class Bar:
    """A base address register and its region: 32-bit memory, or I/O ports."""

    region: Region
    """Its size is the BAR's: a power of two, at least 16 (memory) or 4 (I/O) bytes."""
    io: bool = False
    prefetchable: bool = False

    def __post_init__(self) -> None:
        size, least = self.region.size, 4 if self.io else 16
        most = IO_LIMIT if self.io else MEMORY_LIMIT >> 1
        if size & (size - 1) or not least <= size <= most:
            raise ValueError(
                f"BAR {self.region.name!r}: expected a power of two from {least} to {most:#x} "
                f"bytes, got {size:#x}"
            )
        if self.io and self.prefetchable:
            raise ValueError(f"BAR {self.region.name!r}: I/O cannot be prefetchable")

    @property
    def type_bits(self) -> int:
        """The read-only low bits of the register."""
        return BAR_IO if self.io else BAR_PREFETCHABLE if self.prefetchable else 0


class PciFunction:
    """A function of a device on bus 0. Chips derive from it.

    `legacy_memory` and `legacy_ports` are (base, region, priority), filled in before the function
    is added to a bus; they answer whatever the BARs and the command register say.
    """

    def __init__(
        self,
        *,
        name: str,
        vendor_id: int,
        device_id: int,
        class_code: int,
        revision: int = 0,
        subsystem_vendor_id: int = 0x1AF4,
        subsystem_id: int = 0x1100,
        bars: Mapping[int, Bar] = _NO_BARS,
        interrupt_pin: int = 0,
        rom_size: int = 0,
    ) -> None:
        """`class_code` has 24 bits; `interrupt_pin` 1 to 4 stands for INTA to INTD, 0 for none.

        `rom_size` is in bytes, a power of two from 2048 up. The register of an expansion ROM then
        takes addresses as QEMU's does; without `set_rom`, what it maps reads as unassigned.
        Raises ValueError for numbers outside these ranges and BARs other than 0 to 5.
        """
        if not 0 <= interrupt_pin <= 4:
            raise ValueError(f"{name}: expected an interrupt pin of 0 to 4, got {interrupt_pin}")
        if rom_size and (rom_size & (rom_size - 1) or rom_size < ROM_LEAST):
            raise ValueError(f"{name}: expected a ROM of a power of two bytes, got {rom_size:#x}")
        for number in bars:
            if not 0 <= number < BAR_COUNT:
                raise ValueError(f"{name}: expected BARs 0 to 5, got {number}")
        self.name = name
        self.legacy_memory: list[tuple[int, Region, int]] = []
        self.legacy_ports: list[tuple[int, Region, int]] = []
        self.config = bytearray(CONFIG_SIZE)
        self.bus: PciBus | None = None
        self._bars = dict(bars)
        self._mapped: dict[int, RegionMapping] = {}
        self._rom = b""
        self._rom_shown: tuple[int, Callable[[], None]] | None = None  # where, and its end
        self._pin = interrupt_pin
        for what, offset, size, number in (
            ("vendor_id", VENDOR_ID, 2, vendor_id),
            ("device_id", DEVICE_ID, 2, device_id),
            ("revision", REVISION_ID, 1, revision),
            ("class_code", CLASS_PROG, 3, class_code),
            ("subsystem_vendor_id", SUBSYSTEM_VENDOR_ID, 2, subsystem_vendor_id),
            ("subsystem_id", SUBSYSTEM_ID, 2, subsystem_id),
        ):
            greatest = (1 << 8 * size) - 1
            if not 0 <= number <= greatest:
                raise ValueError(
                    f"{name}: expected a {what} of 0 to {greatest:#x}, got {number:#x}"
                )
            self._put(offset, size, number)
        self._put(INTERRUPT_PIN, 1, interrupt_pin)
        for number, bar in self._bars.items():
            self._put(BASE_ADDRESS_0 + 4 * number, 4, bar.type_bits)
        self._writable = self._make_write_mask(rom_size)

    def resize_rom(self, size: int) -> None:
        """Another size of the expansion ROM's register, as for `rom_size`; 0: no such register."""
        self._writable = self._make_write_mask(size)

    def set_rom(self, contents: bytes) -> None:
        """Give the function an expansion ROM, shown where its register says.

        Padded to a power of two from 2048 bytes up. Called before the function is added to a bus.
        """
        size = max(ROM_LEAST, 1 << (len(contents) - 1).bit_length())
        self._rom = contents.ljust(size, b"\0")
        self.resize_rom(size)

    def mark_multifunction(self) -> None:
        """Say in the header that the slot may have further functions."""
        self._put(HEADER_TYPE, 1, HEADER_MULTIFUNCTION)

    def _make_write_mask(self, rom_size: int) -> bytes:
        """Per byte of the configuration space, the bits that a write changes."""
        mask = bytearray(FIRST_DEVICE_SPECIFIC) + b"\xff" * (CONFIG_SIZE - FIRST_DEVICE_SPECIFIC)
        mask[COMMAND : COMMAND + 2] = COMMAND_MASK.to_bytes(2, "little")
        mask[CACHE_LINE_SIZE] = 0xFF
        mask[INTERRUPT_LINE] = 0xFF
        for number, bar in self._bars.items():
            at = BASE_ADDRESS_0 + 4 * number
            address_bits = MEMORY_LIMIT - bar.region.size
            mask[at : at + 4] = address_bits.to_bytes(4, "little")
        if rom_size:
            rom_bits = MEMORY_LIMIT - rom_size | ROM_ENABLE
            mask[ROM_ADDRESS : ROM_ADDRESS + 4] = rom_bits.to_bytes(4, "little")
        return bytes(mask)

    def _put(self, offset: int, size: int, value: int) -> None:
        self.config[offset : offset + size] = value.to_bytes(size, "little")

    def _get(self, offset: int, size: int) -> int:
        return int.from_bytes(self.config[offset : offset + size], "little")

    @property
    def bars(self) -> Mapping[int, Bar]:
        """The BARs by number, 0 to 5."""
        return self._bars

    @property
    def command(self) -> int:
        """The command register, 16 bits."""
        return self._get(COMMAND, 2)

    # --- configuration ---

    def config_read(self, offset: int, size: int) -> int:
        """Read bytes of the configuration space, lowest first; past its end they are 0."""
        return int.from_bytes(self.config[max(offset, 0) : max(offset + size, 0)], "little")

    def config_write(self, offset: int, size: int, value: int) -> None:
        """Write the bits that can be written; BARs and their decoding follow at once."""
        for position in range(size):
            at = offset + position
            if 0 <= at < CONFIG_SIZE:
                writable = self._writable[at]
                byte = value >> (8 * position)
                self.config[at] = self.config[at] & ~writable | byte & writable
        if offset < FIRST_DEVICE_SPECIFIC:
            self._update_mappings()
            self._update_interrupt()

    def bar_address(self, number: int) -> int | None:
        """The address at which a BAR decodes now; None if it is off or has no usable address.

        QEMU leaves a BAR at address 0 unmapped, and one that ends with the 4 GiB space.
        """
        bar = self._bars[number]
        if not self.command & (COMMAND_IO if bar.io else COMMAND_MEMORY):
            return None
        address = self._get(BASE_ADDRESS_0 + 4 * number, 4) & -bar.region.size
        end = address + bar.region.size
        if address == 0 or end >= MEMORY_LIMIT or (bar.io and end > IO_LIMIT):
            return None
        return address

    def _update_mappings(self) -> None:
        if self.bus is None:
            return
        for number in sorted(self._bars):
            address = self.bar_address(number)
            mapped = self._mapped.get(number)
            if address == (None if mapped is None else mapped.base):
                continue
            space = self.bus.ports if self._bars[number].io else self.bus.memory
            if mapped is not None:
                # Writes queued for the old address reach the device inside this call.
                space.unmap(self._mapped.pop(number))
            if address is not None:
                region = self._bars[number].region
                self._mapped[number] = space.map(region, address, BAR_PRIORITY)

        self._update_rom(self.bus)

    def _rom_address(self) -> int | None:
        """The address at which the expansion ROM decodes now."""
        register = self._get(ROM_ADDRESS, 4)
        address = register & -ROM_LEAST
        if not self._rom or not register & ROM_ENABLE or not self.command & COMMAND_MEMORY:
            return None
        return address if address and address + len(self._rom) < MEMORY_LIMIT else None

    def _update_rom(self, bus: PciBus) -> None:
        address = self._rom_address()
        if address == (self._rom_shown and self._rom_shown[0]):
            return
        if self._rom_shown is not None:
            self._rom_shown[1]()
            self._rom_shown = None
        if address is not None:
            self._rom_shown = address, bus.show_rom(address, self._rom)

    # --- interrupt ---

    def set_interrupt(self, level: bool | int) -> None:
        """Drive the function's INTx pin. Status bit 3 shows it, even with INTx disabled.

        Any true value raises it, such as the bits of an interrupt cause that are not masked.
        """
        raised = STATUS_INTERRUPT if level else 0
        self.config[STATUS] = self.config[STATUS] & ~STATUS_INTERRUPT | raised
        self._update_interrupt()

    def _update_interrupt(self) -> None:
        if self.bus is not None and self._pin:
            raised = self.config[STATUS] & STATUS_INTERRUPT
            self.bus.set_pin(
                self, self._pin, bool(raised) and not self.command & COMMAND_INTX_DISABLE
            )

    # --- bus mastering and time ---

    @property
    def is_master(self) -> bool:
        """True while the function is a bus master: it may access memory by itself."""
        return bool(self.config[COMMAND] & COMMAND_MASTER)

    def ram_at(self, address: int) -> Ram | None:
        """As `Dma.ram_at`; None while the function is no bus master."""
        return self._bus().dma.ram_at(address) if self.is_master else None

    def dma_read(self, address: int, size: int) -> bytes:
        """`size` bytes of memory from `address` on; zeros while the function is no bus master."""
        if not self.config[COMMAND] & COMMAND_MASTER:
            return bytes(size)
        return self._bus().dma.read(address, size)

    def dma_write(self, address: int, data: bytes) -> None:
        """Put bytes into memory; nothing happens while the function is no bus master."""
        if self.config[COMMAND] & COMMAND_MASTER:
            self._bus().dma.write(address, data)

    @property
    def dma_accesses(self) -> int:
        """Number of accesses to devices by DMA on this bus so far."""
        return self._bus().dma.device_accesses

    @property
    def clock(self) -> Clock:
        """The clock of the devices on this bus."""
        return self._bus().clock

    def _bus(self) -> PciBus:
        if self.bus is None:
            raise RuntimeError(f"{self.name} is on no bus")
        return self.bus

    # --- device ---

    def reset(self) -> None:
        """Clear the standard registers and stop decoding.

        Device-specific bytes (0x40 up) stay as they are, as in QEMU.
        """
        self.set_interrupt(False)
        for offset in range(FIRST_DEVICE_SPECIFIC):
            self.config[offset] &= ~self._writable[offset]
        self._update_mappings()

    def state(self) -> Mapping[str, StateValue]:
        """The configuration space as `config`."""
        return {"config": bytes(self.config)}
