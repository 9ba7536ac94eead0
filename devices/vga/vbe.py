"""The Bochs VBE extensions (DISPI): linear modes beside the VGA's own, and the bank register.

Numbers and names follow Bochs' "VBE Display API"; what is clamped and when follows QEMU 7.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coalesced.devices.bus.region import Region
from coalesced.devices.vga.registers import (
    CR9_DOUBLE_SCAN,
    CR17_MAP13,
    CR17_MAP14,
    CR_HORIZONTAL_DISPLAY_END,
    CR_LINE_COMPARE,
    CR_MAXIMUM_SCAN_LINE,
    CR_MODE,
    CR_OFFSET,
    CR_OVERFLOW,
    CR_VERTICAL_DISPLAY_END,
    GR5_SHIFT_256,
    GR5_SHIFT_INTERLEAVED,
    GR6_GRAPHICS,
    GR_MISC,
    GR_MODE,
    SR1_HALF_DOT_CLOCK,
    SR4_CHAIN_4,
    SR_CLOCKING_MODE,
    SR_MAP_MASK,
    SR_MEMORY_MODE,
)

if TYPE_CHECKING:
    from coalesced.devices.bus.device import StateValue
    from coalesced.devices.vga.vga import Vga

INDEX_PORT: Final = 0x1CE
DATA_PORTS: Final = (0x1CF, 0x1D0)
"""The second is x86's own, where words are aligned."""

INDEX_ID: Final = 0
INDEX_XRES: Final = 1
INDEX_YRES: Final = 2
INDEX_BPP: Final = 3
INDEX_ENABLE: Final = 4
INDEX_BANK: Final = 5
INDEX_VIRT_WIDTH: Final = 6
INDEX_VIRT_HEIGHT: Final = 7
INDEX_X_OFFSET: Final = 8
INDEX_Y_OFFSET: Final = 9
INDEX_VIDEO_MEMORY_64K: Final = 10
REGISTER_COUNT: Final = 10

ID0: Final = 0xB0C0
ID5: Final = 0xB0C5
ENABLED: Final = 0x01
GETCAPS: Final = 0x02
DAC_8BIT: Final = 0x20
NOCLEARMEM: Final = 0x80

MAX_XRES: Final = 16000
MAX_YRES: Final = 12000
MAX_BPP: Final = 32

BANK_SIZE: Final = 64 << 10

_GEOMETRY: Final = frozenset(
    (INDEX_XRES, INDEX_YRES, INDEX_BPP, INDEX_VIRT_WIDTH, INDEX_X_OFFSET, INDEX_Y_OFFSET)
)
_CAPABILITIES: Final = {INDEX_XRES: MAX_XRES, INDEX_YRES: MAX_YRES, INDEX_BPP: MAX_BPP}
_BITS: Final = {4: 4, 8: 8, 15: 16, 16: 16, 24: 24, 32: 32}
"""By BPP: bits that a pixel takes in memory."""

PORTS_BASE: Final = 0x1CC
PORTS_SIZE: Final = 8
"""The three ports, and those beside them that a dword may have in common with them."""


class Vbe:
    """The DISPI registers of a VGA. While they are enabled, they govern window and picture.

    `line_length` (bytes from one line to the next) and `start` (bytes into video memory, a
    multiple of 4, where the picture begins) hold while `enabled`.
    """

    def __init__(self, vga: Vga) -> None:
        self._vga = vga
        self._sr = bytearray(len(vga.registers.sr))
        self.index = 0
        self.registers = [0] * REGISTER_COUNT
        self.line_length = 0
        self.start = 0
        vga.port_decoder.after_indexed_write(self._program_vga)
        self.ports = Region("vbe", PORTS_SIZE, self._read_port, self._write_port, flush=True)
        self.reset()

    def reset(self) -> None:
        """Turn the extension off and clear its registers. To be followed by the VGA's reset."""
        self.index = 0
        self.registers[:] = [0] * REGISTER_COUNT
        self.registers[INDEX_ID] = ID5
        self.line_length = 0
        self.start = 0
        self._sr[:] = bytes(len(self._sr))
        self._select_memory(0)

    def state(self) -> dict[str, StateValue]:
        """The registers, and the other state that a guest can observe."""
        return {
            "vbe_index": self.index,
            "vbe_registers": b"".join(value.to_bytes(2, "little") for value in self.registers),
            "vbe_sr": bytes(self._sr),
            "vbe_line_length": self.line_length,
            "vbe_start": self.start,
            "vbe_bank_offset": self._vga.memory.bank_offset,
        }

    @property
    def enabled(self) -> bool:
        return bool(self.registers[INDEX_ENABLE] & ENABLED)

    @property
    def dac_8bit(self) -> bool:
        """Whether the palette has 8 bits per component, not 6."""
        return bool(self.registers[INDEX_ENABLE] & DAC_8BIT)

    # --- registers ---

    def read_data(self) -> int:
        """The register that `index` selects, 16 bits; 0 where there is none."""
        index = self.index
        if index == INDEX_VIDEO_MEMORY_64K:
            return len(self._vga.vram) // BANK_SIZE & 0xFFFF
        if index >= REGISTER_COUNT:
            return 0
        if self.registers[INDEX_ENABLE] & GETCAPS and index in _CAPABILITIES:
            return _CAPABILITIES[index]
        return self.registers[index]

    def write_data(self, value: int) -> None:
        """Write 16 bits to the register that `index` selects."""
        index = self.index
        if index == INDEX_ID:
            if ID0 <= value <= ID5:
                self.registers[INDEX_ID] = value
        elif index in _GEOMETRY:
            self.registers[index] = value
            self._apply_geometry()
        elif index == INDEX_BANK:
            value &= len(self._vga.vram) // BANK_SIZE - 1
            self.registers[INDEX_BANK] = value
            self._select_memory(value * BANK_SIZE)
        elif index == INDEX_ENABLE:
            self._write_enable(value)

    def _write_enable(self, value: int) -> None:
        """Enter a mode, leave it, or change its flags: the latter two go back to bank 0."""
        r = self.registers
        bank_offset = 0
        if value & ENABLED and not self.enabled:
            bank_offset = self._vga.memory.bank_offset
            r[INDEX_VIRT_WIDTH] = r[INDEX_X_OFFSET] = r[INDEX_Y_OFFSET] = 0
            r[INDEX_ENABLE] |= ENABLED
            self._apply_geometry()
            if not value & NOCLEARMEM:
                self._vga.vram[: r[INDEX_YRES] * self.line_length] = 0
        r[INDEX_ENABLE] = value
        self._select_memory(bank_offset)

    def _select_memory(self, bank_offset: int) -> None:
        """Point the window at a bank, and at the sequencer in effect."""
        registers, memory = self._vga.registers, self._vga.memory
        memory.bank_offset = bank_offset
        memory.sr = self._sr if self.enabled else registers.sr
        registers.generation += 1

    # --- geometry ---

    def _apply_geometry(self) -> None:
        """Clamp the registers to what video memory holds, once enabled, and program the VGA."""
        if not self.enabled:
            return
        r = self.registers
        if r[INDEX_BPP] not in _BITS:
            r[INDEX_BPP] = 8
        bits = _BITS[r[INDEX_BPP]]
        xres = min(max(r[INDEX_XRES] & ~7, 8), MAX_XRES)
        virt_width = min(max(r[INDEX_VIRT_WIDTH] & ~7, xres), MAX_XRES)
        line_length = virt_width * bits // 8
        size = len(self._vga.vram)
        yres = max(min(r[INDEX_YRES], MAX_YRES, size // line_length), 1)
        x_offset = min(r[INDEX_X_OFFSET], MAX_XRES)
        y_offset = min(r[INDEX_Y_OFFSET], MAX_YRES)
        start = x_offset * bits // 8 + y_offset * line_length
        if start + yres * line_length > size:
            y_offset = 0
            start = x_offset * bits // 8
            if start + yres * line_length > size:
                x_offset = start = 0
        r[INDEX_XRES], r[INDEX_YRES] = xres, yres
        r[INDEX_VIRT_WIDTH], r[INDEX_VIRT_HEIGHT] = virt_width, size // line_length & 0xFFFF
        r[INDEX_X_OFFSET], r[INDEX_Y_OFFSET] = x_offset, y_offset
        self.line_length = line_length
        self.start = start & ~3
        self._program_vga()

    def _program_vga(self) -> None:
        """Put the mode into the VGA's own registers, as QEMU does, whatever a guest puts there."""
        if not self.enabled:
            return
        vga = self._vga.registers
        r = self.registers
        cr, gr = vga.cr, vga.gr
        gr[GR_MISC] = gr[GR_MISC] & ~0x0C | 0x04 | GR6_GRAPHICS
        cr[CR_MODE] |= CR17_MAP13 | CR17_MAP14
        cr[CR_OFFSET] = self.line_length >> 3 & 0xFF
        cr[CR_HORIZONTAL_DISPLAY_END] = (r[INDEX_XRES] >> 3) - 1 & 0xFF
        last_line = r[INDEX_YRES] - 1
        cr[CR_VERTICAL_DISPLAY_END] = last_line & 0xFF
        cr[CR_OVERFLOW] = (
            cr[CR_OVERFLOW] & ~0x42 | last_line >> 7 & 0x02 | last_line >> 3 & 0x40 | 0x10
        )
        cr[CR_LINE_COMPARE] = 0xFF
        cr[CR_MAXIMUM_SCAN_LINE] = cr[CR_MAXIMUM_SCAN_LINE] & ~(CR9_DOUBLE_SCAN | 0x1F) | 0x40
        gr[GR_MODE] &= ~(GR5_SHIFT_256 | GR5_SHIFT_INTERLEAVED)
        sr = self._sr
        if r[INDEX_BPP] == 4:
            sr[SR_CLOCKING_MODE] &= ~SR1_HALF_DOT_CLOCK
        else:
            gr[GR_MODE] |= GR5_SHIFT_256
            sr[SR_MEMORY_MODE] |= SR4_CHAIN_4
            sr[SR_MAP_MASK] |= 0x0F
        vga.generation += 1

    # --- ports ---

    def _read_port(self, offset: int, size: int) -> int:
        """Only words answer. The rest reads as ones, other ports beside them too."""
        value = 0
        for port, shift, length in _port_steps(PORTS_BASE + offset, size):
            part = (1 << (8 * length)) - 1
            if length == 2 and port == INDEX_PORT:
                part = self.index
            elif length == 2 and port in DATA_PORTS:
                part = self.read_data()
            value |= part << shift
        return value

    def _write_port(self, offset: int, size: int, value: int) -> None:
        for port, shift, length in _port_steps(PORTS_BASE + offset, size):
            part = value >> shift & 0xFFFF
            if length == 2 and port == INDEX_PORT:
                self.index = part
            elif length == 2 and port in DATA_PORTS:
                self.write_data(part)


def _port_steps(port: int, size: int) -> list[tuple[int, int, int]]:
    """(port, bit shift, size) of QEMU's steps: from the three ports on all at once up to a dword,
    beside them aligned."""
    steps = []
    shift = 0
    while size > 0:
        step = 4 if size >= 4 else 2 if size >= 2 else 1
        if port != INDEX_PORT and port not in DATA_PORTS:
            while port & (step - 1):
                step >>= 1
        steps.append((port, shift, step))
        port += step
        shift += 8 * step
        size -= step
    return steps
