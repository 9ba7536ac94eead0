"""The i440FX host bridge: function 00:00.0, the configuration mechanism, and the reset port.

Ports 0xcf8 to 0xcff as on QEMU 7.2's `pc`, where a PIIX3 adds the reset control register at 0xcf9,
in the middle of the address register.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from coalesced.devices.bus.device import StateValue
from coalesced.devices.bus.pci import PciFunction
from coalesced.devices.bus.region import Region

CONFIG_ADDRESS: Final = 0xCF8
CONFIG_DATA: Final = 0xCFC

CONFIG_ENABLE: Final = 0x8000_0000
CONFIG_BUS: Final = 0x00FF_0000

RESET_OFFSET: Final = 1
"""Of the reset control register, from 0xcf8."""
RESET_HARD: Final = 0x02
RESET_CPU: Final = 0x04
"""Written as 1, it resets the machine."""

RAM_SIZE: Final = 0x57
"""A byte that firmware reads the memory size from, in units of 8 MiB as in QEMU."""
PAM: Final = 0x59
PAM_RAM: Final = 0x3
"""Of four bits: reads, and writes. QEMU puts RAM there for both as soon as one of them is set."""
SMRAM: Final = 0x72
SMRAM_OPEN: Final = 0x40
"""RAM instead of the video window. QEMU asks for neither SMRAME (bit 3) nor the lock (bit 4)."""
SMRAM_AT_POWER_ON: Final = 0x02


class Area(NamedTuple):
    """Addresses of the first MiB that are RAM when one of some bits of a register is set."""

    start: int
    size: int
    register: int
    bits: int


VIDEO_WINDOW: Final = Area(0xA0000, 0x20000, SMRAM, SMRAM_OPEN)
AREAS: Final = (
    VIDEO_WINDOW,
    Area(0xF0000, 0x10000, PAM, PAM_RAM << 4),
    *(
        Area(0xC0000 + 0x4000 * half, 0x4000, PAM + 1 + half // 2, PAM_RAM << 4 * (half & 1))
        for half in range(12)
    ),
)
"""Hidden at power-on. Between them they take all that lies between conventional and high memory."""


class I440fx(PciFunction):
    """8086:1237, to be added to a bus in slot 0.

    The address register is a coalesced port: what a write of it selects is not seen before the
    next access of the data port, which flushes. All four bytes are one region, reset port
    included, so that a dword of the address register fits into one zone and is queued (QEMU's
    zone is cut at 0xcf9, and nothing fits). A reset asked for by a byte at 0xcf9 may thus wait
    in the queue until the next drain.

    The memory attributes (PAM) and SMRAM control say which of AREAS are RAM.
    """

    def __init__(
        self,
        *,
        ram_size: int = 0,
        reset_machine: Callable[[], None] | None = None,
        show_ram: Callable[[Area, bool], None] = lambda _area, _shown: None,
    ) -> None:
        """RAM_SIZE reports `ram_size` (bytes); a write of the reset port calls `reset_machine`.

        `show_ram` is called for each of AREAS that becomes RAM, or is RAM no more.
        """
        super().__init__(
            name="i440FX",
            vendor_id=0x8086,
            device_id=0x1237,
            class_code=0x060000,
            revision=0x02,
        )
        self.reset_machine = reset_machine
        self._show_ram = show_ram
        self._shown: set[Area] = set()
        self.config[RAM_SIZE] = min(ram_size >> 23, 0xFF)
        self.config[SMRAM] = SMRAM_AT_POWER_ON
        self.config_address = 0
        self.reset_control = 0
        self.legacy_ports = [
            (
                CONFIG_ADDRESS,
                Region(
                    "pci-conf-idx",
                    4,
                    self._read_address,
                    self._write_address,
                    coalesced=((0, 4),),
                    register=lambda _offset: "CONFADD",
                ),
                0,
            ),
            (
                CONFIG_DATA,
                Region(
                    "pci-conf-data",
                    4,
                    self._read_data,
                    self._write_data,
                    flush=True,
                    register=self._selected,
                ),
                0,
            ),
        ]

    def config_write(self, offset: int, size: int, value: int) -> None:
        super().config_write(offset, size, value)
        if offset <= SMRAM and offset + size > PAM:
            self._route()

    def _route(self) -> None:
        """Show and hide RAM as the registers say now."""
        for area in AREAS:
            wanted = bool(self.config[area.register] & area.bits)
            if wanted and area not in self._shown:
                self._show_ram(area, True)
                self._shown.add(area)
            elif not wanted and area in self._shown:
                self._shown.remove(area)
                self._show_ram(area, False)

    def reset(self) -> None:
        """As QEMU's: neither the address register nor device-specific bytes change, nor AREAS."""
        super().reset()
        self.reset_control = 0

    def state(self) -> Mapping[str, StateValue]:
        """The configuration space, the address register and the reset control register."""
        return {
            **super().state(),
            "config_address": self.config_address,
            "reset_control": self.reset_control,
        }

    # --- 0xcf8: the address register, and the reset control register at 0xcf9 ---

    def _read_address(self, offset: int, size: int) -> int:
        """A read of any byte of the register starts at its lowest byte.

        At 0xcf9 there is the reset control register alone, in every byte of the access.
        """
        if offset == RESET_OFFSET:
            return self.reset_control * 0x010101 & _mask(size)
        value = 0
        for _, shift, length in _steps(offset, size):
            value |= (self.config_address & _mask(length)) << shift
        return value

    def _write_address(self, offset: int, size: int, value: int) -> None:
        """A whole dword is an address; what is smaller reaches only the reset control register."""
        if offset == RESET_OFFSET:
            for position in range(size):
                self._write_reset_control(value >> (8 * position) & 0xFF)
        elif offset == 0 and size == 4:
            self.config_address = value & 0xFFFF_FFFF

    def _write_reset_control(self, value: int) -> None:
        if value & RESET_CPU:
            if self.reset_machine is not None:
                self.reset_machine()
        else:
            self.reset_control = value & RESET_HARD

    # --- 0xcfc: the data port ---

    def _selected(self, offset: int) -> str:
        """CONFDATA with the function and the register that CONFADD selects."""
        address = self.config_address
        slot, function = address >> 11 & 0x1F, address >> 8 & 7
        return f"CONFDATA({slot:02x}.{function}, {address & 0xFC | offset:#04x})"

    def _read_data(self, offset: int, size: int) -> int:
        value = 0
        for at, shift, length in _steps(offset, size):
            value |= self._read_config(at, length) << shift
        return value

    def _read_config(self, offset: int, size: int) -> int:
        address = self.config_address
        if self.bus is None or not _selects_bus_0(address):
            return _mask(size)
        return self.bus.config_read(
            address >> 11 & 0x1F, address >> 8 & 7, address & 0xFF | offset, size
        )

    def _write_data(self, offset: int, size: int, value: int) -> None:
        address = self.config_address
        if self.bus is None or not _selects_bus_0(address):
            return
        for at, shift, length in _steps(offset, size):
            self.bus.config_write(
                address >> 11 & 0x1F,
                address >> 8 & 7,
                address & 0xFF | at,
                length,
                value >> shift & _mask(length),
            )


def _selects_bus_0(address: int) -> bool:
    return address & (CONFIG_ENABLE | CONFIG_BUS) == CONFIG_ENABLE


def _mask(size: int) -> int:
    return (1 << (8 * size)) - 1


def _steps(offset: int, size: int) -> list[tuple[int, int, int]]:
    """(offset, bit shift, size) of the steps that QEMU takes: aligned, of 1, 2 or 4 bytes."""
    steps = []
    shift = 0
    while size > 0:
        step = 4 if size >= 4 else 2 if size >= 2 else 1
        while offset & (step - 1):
            step >>= 1
        steps.append((offset, shift, step))
        offset += step
        shift += 8 * step
        size -= step
    return steps
