"""The CL-GD5446's registers beyond those of a VGA: names, widths, state after power-on.

Names and numbers are those of the Cirrus Logic CL-GD5446 technical reference: SR sequencer, GR
graphics controller, CR CRT controller, HDR hidden DAC register. Which bits stick follows QEMU
7.2, the reference of this model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from coalesced.devices.vga.registers import GR_MASK, GR_MODE, SR_MASK, Registers

if TYPE_CHECKING:
    from coalesced.devices.bus.device import StateValue

# Sequencer extensions
SR_UNLOCK: Final = 0x06
SR_EXTENDED_MODE: Final = 0x07
SR_DRAM_CONTROL: Final = 0x0F
SR_CURSOR_X: Final = 0x10
SR_CURSOR_Y: Final = 0x11
SR_CURSOR_ATTRIBUTES: Final = 0x12
SR_CURSOR_PATTERN: Final = 0x13
SR_MEMORY_SIZE: Final = 0x15
SR_CONFIGURATION: Final = 0x17
SR_MCLK: Final = 0x1F
SR6_KEY: Final = 0x12
SR6_LOCKED: Final = 0x0F
SR7_EXTENDED: Final = 0x01
SR7_DEPTH: Final = 0x0E
SR12_CURSOR_ON: Final = 0x01
SR12_HIDDEN_COLORS: Final = 0x02
SR12_CURSOR_64: Final = 0x04
SR17_BUS_TYPE: Final = 0x38
SR17_REGISTERS_IN_MEMORY: Final = 0x04
SR17_REGISTERS_AT_END: Final = 0x40

# Graphics controller extensions; GR20 and up belong to the blitter
GR_OFFSET_0: Final = 0x09
GR_OFFSET_1: Final = 0x0A
GR_EXTENSIONS: Final = 0x0B
GR_BACKGROUND_1: Final = 0x10
GR_FOREGROUND_1: Final = 0x11
GR_BACKGROUND_2: Final = 0x12
GR_FOREGROUND_2: Final = 0x13
GR_BACKGROUND_3: Final = 0x14
GR_FOREGROUND_3: Final = 0x15
GR_DRAM_TIMING: Final = 0x18
GR_BLT_WIDTH: Final = 0x20
GR_BLT_HEIGHT: Final = 0x22
GR_BLT_DST_PITCH: Final = 0x24
GR_BLT_SRC_PITCH: Final = 0x26
GR_BLT_DST_START: Final = 0x28
GR_BLT_DST_START_HIGH: Final = 0x2A
GR_BLT_SRC_START: Final = 0x2C
GR_BLT_SKIP_LEFT: Final = 0x2F
GR_BLT_MODE: Final = 0x30
GR_BLT_STATUS: Final = 0x31
GR_BLT_ROP: Final = 0x32
GR_BLT_MODE_EXTENSIONS: Final = 0x33
GR_BLT_KEY: Final = 0x34
GRB_TWO_OFFSETS: Final = 0x01
GRB_BY_8: Final = 0x02
GRB_EXTENDED_WRITE_MODES: Final = 0x04
GRB_WRITES_16_BITS: Final = 0x10
GRB_WIDE_PIXELS: Final = GRB_EXTENDED_WRITE_MODES | GRB_WRITES_16_BITS
"""Both: addresses count 16 bytes, and a byte in write modes 4 and 5 eight pixels of 16 bits."""
GRB_OFFSETS_OF_16_KIB: Final = 0x20
GR30_BACKWARDS: Final = 0x01
GR30_TO_SYSTEM: Final = 0x02
GR30_FROM_SYSTEM: Final = 0x04
GR30_TRANSPARENT: Final = 0x08
GR30_PIXEL_WIDTH: Final = 0x30
GR30_PATTERN: Final = 0x40
GR30_COLOR_EXPAND: Final = 0x80
GR31_BUSY: Final = 0x01
GR31_START: Final = 0x02
GR31_RESET: Final = 0x04
GR31_BUFFERED: Final = 0x10
GR31_AUTOSTART: Final = 0x80
GR33_DWORD_GRANULARITY: Final = 0x01
GR33_INVERT_EXPANSION: Final = 0x02
GR33_SOLID_FILL: Final = 0x04

# CRT controller extensions
CR_INTERLACE_END: Final = 0x19
CR_MISCELLANEOUS: Final = 0x1A
CR1A_INTERLACED: Final = 0x01
CR_EXTENDED_DISPLAY: Final = 0x1B
CR_OVERLAY: Final = 0x1D
CR_LATCHES: Final = 0x22
CR_ATTRIBUTE_TOGGLE: Final = 0x24
CR_PART_STATUS: Final = 0x25
CR_ATTRIBUTE_INDEX: Final = 0x26
CR_PART_ID: Final = 0x27

BANK_SIZE: Final = 0x8000
"""Bytes of one half of the banked window."""

VRAM_SIZE: Final = 4 << 20
"""Bytes of video memory on the PCI card; SR15 says so to drivers."""

HIDDEN_DAC_KEY: Final = 4
"""Number of consecutive reads of 0x3c6 that open the hidden DAC register."""
HIDDEN_DAC_SHUT: Final = 5
"""The count after reset: no number of reads opens it before an access to 0x3c8 restarts it."""

SR_COUNT: Final = 0x20
GR_COUNT: Final = 0x3A
GR_MASK_ALL: Final = (
    # GR0 and GR1 keep eight bits here, of which a VGA's functions use four; GR5 has write mode 4, 5
    bytes((0xFF, 0xFF, *GR_MASK[2:5], 0x7F, *GR_MASK[6:9], 0xFF, 0xFF, 0xFF))
    + bytes(4)
    + b"\xff" * 6
    + bytes(10)
    + bytes((0xFF, 0x1F) * 4 + (0xFF, 0xFF, 0x3F, 0x00, 0xFF, 0xFF, 0x3F, 0xFF))
    + bytes((0xFF,) * 6 + (0x00, 0x00, 0xFF, 0xFF))
)
"""By index, the bits of a graphics controller register that a write changes."""
SR_MASK_ALL: Final = bytes((*SR_MASK[:5], 0x00, 0x00)) + b"\xff" * (SR_COUNT - 7)
"""The same of the sequencer; SR6 and SR17 have rules of their own."""


@dataclass(frozen=True, slots=True)
class Variant:
    """Reset values that differ between the PCI card and the ISA card."""

    sr0f: int
    sr15: int
    sr17: int
    sr1f: int
    gr18: int
    part_id: int
    """CR27."""
    vram_size: int
    """Bytes of video memory that the engine and shifted addresses reach, a power of two."""


GD5446_PCI: Final = Variant(
    sr0f=0x98, sr15=0x04, sr17=0x20, sr1f=0x2D, gr18=0x0F, part_id=0xB8, vram_size=VRAM_SIZE
)
GD5430_ISA: Final = Variant(
    sr0f=0x18, sr15=0x03, sr17=0x38, sr1f=0x22, gr18=0x00, part_id=0xA0, vram_size=2 << 20
)
"""QEMU's ISA card says that it is a GD5430 (CR27), yet has a GD5446's engine."""


class CirrusRegisters(Registers):
    """A VGA's registers and the extensions, without what the blitter holds of a blit under way."""

    __slots__ = (
        "bank_bases",
        "bank_limits",
        "banks_mapped",
        "cursor_x",
        "cursor_y",
        "hidden_dac",
        "hidden_dac_reads",
        "hidden_palette",
        "linear_mapped",
        "memory_size",
        "shadow_gr0",
        "shadow_gr1",
        "variant",
    )

    def __init__(self, variant: Variant, memory_size: int = VRAM_SIZE) -> None:
        """`memory_size` in bytes is what the display reaches; the engine's is the variant's."""
        self.variant = variant
        self.memory_size = memory_size
        # No reset changes these, nor the cursor's position.
        self.hidden_palette = bytearray(16 * 3)
        self.shadow_gr0 = 0
        self.shadow_gr1 = 0
        self.cursor_x = 0
        self.cursor_y = 0
        # The halves of the window: address of the first byte, and how many there are.
        self.bank_bases = [0, 0]
        self.bank_limits = [0, 0]
        super().__init__(SR_COUNT, GR_COUNT)

    def reset(self) -> None:
        """Load what QEMU's reset does: zeros, but for configuration and identification.

        It keeps what no register reads back as it stands, and takes the banks out of the window.
        """
        super().reset()
        variant = self.variant
        self.sr[SR_UNLOCK] = SR6_LOCKED
        self.sr[SR_DRAM_CONTROL] = variant.sr0f
        self.sr[SR_MEMORY_SIZE] = variant.sr15
        self.sr[SR_CONFIGURATION] = variant.sr17
        self.sr[SR_MCLK] = variant.sr1f
        self.gr[GR_DRAM_TIMING] = variant.gr18
        self.cr[CR_PART_ID] = variant.part_id
        self.banks_mapped = False
        self.linear_mapped = False
        self.hidden_dac = 0
        self.hidden_dac_reads = HIDDEN_DAC_SHUT

    def state(self) -> dict[str, StateValue]:
        """All registers by name."""
        state = super().state()
        state["shadow_gr0"] = self.shadow_gr0
        state["shadow_gr1"] = self.shadow_gr1
        for half in range(2):
            state[f"bank_base_{half}"] = self.bank_bases[half]
            state[f"bank_limit_{half}"] = self.bank_limits[half]
        state["banks_mapped"] = int(self.banks_mapped)
        state["linear_mapped"] = int(self.linear_mapped)
        state["cursor_x"] = self.cursor_x
        state["cursor_y"] = self.cursor_y
        state["hidden_dac"] = self.hidden_dac
        state["hidden_dac_reads"] = self.hidden_dac_reads
        state["hidden_palette"] = bytes(self.hidden_palette)
        return state

    def field(self, index: int, size: int) -> int:
        """A number of `size` bytes that lies in consecutive GR registers, lowest first."""
        return int.from_bytes(self.gr[index : index + size], "little")

    def latch_banks(self) -> None:
        """Work out where the banks lie: with a write of GR9, GRA or GRB, and at no other time.

        A half that begins past the end of memory has no bytes, and its address becomes 0.
        """
        extensions = self.gr[GR_EXTENSIONS]
        two = extensions & GRB_TWO_OFFSETS
        for half in range(2):
            base = self.gr[GR_OFFSET_0 + (half if two else 0)]
            base <<= 14 if extensions & GRB_OFFSETS_OF_16_KIB else 12
            if half and not two:
                base += BANK_SIZE
            limit = max(0, self.variant.vram_size - base)
            self.bank_bases[half] = base if limit else 0
            self.bank_limits[half] = limit

    def map_memory(self, *, receiving: bool) -> None:
        """Decide anew whether memory itself lies in the window and in the linear framebuffer.

        QEMU maps it there while nothing but plain accesses are asked for, and looks again only with
        a write of SR7 (before it takes effect), SR17, GR5, GR9 to GRB, when a blit from the system
        starts or ends, and at the first end of any blit. Between these a window that SR7 turns back
        into a VGA's still shows the banks; and mapped memory knows no limit but its own end.
        """
        extensions = self.gr[GR_EXTENSIONS]
        plain = not (
            extensions & GRB_BY_8
            or extensions & GRB_WIDE_PIXELS == GRB_WIDE_PIXELS
            or (self.gr[GR_MODE] & 7 in {4, 5} and extensions & GRB_EXTENDED_WRITE_MODES)
        )
        registers = SR17_REGISTERS_IN_MEMORY | SR17_REGISTERS_AT_END
        plain = plain and self.sr[SR_CONFIGURATION] & registers != registers
        self.linear_mapped = plain and not receiving
        self.banks_mapped = self.linear_mapped and self.extended

    @property
    def display_start(self) -> int:
        """CR1B bit 0, CR1B bits 3-2 and CR1D bit 7 are bits 16 to 19."""
        extended = self.cr[CR_EXTENDED_DISPLAY]
        high = (extended & 0x01) << 16 | (extended & 0x0C) << 15
        return high | (self.cr[CR_OVERLAY] & 0x80) << 12 | super().display_start

    @property
    def row_pitch(self) -> int:
        """CR1B bit 4 is bit 8 of the offset."""
        return super().row_pitch | (self.cr[CR_EXTENDED_DISPLAY] & 0x10) << 5

    @property
    def interlaced(self) -> bool:
        return bool(self.cr[CR_MISCELLANEOUS] & CR1A_INTERLACED)

    @property
    def pairs_through_palette(self) -> bool:
        """With 256 colours this chip bypasses the palette, as QEMU does for every VGA."""
        return False

    @property
    def address_mask(self) -> int:
        """The display wraps at the end of memory, as in QEMU, also where CR1B bit 1 is clear."""
        return self.memory_size // 4 - 1

    @property
    def extended(self) -> bool:
        """SR7 bit 0: linear video memory instead of a VGA's planes."""
        return bool(self.sr[SR_EXTENDED_MODE] & SR7_EXTENDED)

    @property
    def pixel_bits(self) -> int:
        """Depth of the extended modes by SR7 and the hidden DAC: 8, 15, 16, 24 or 32; else 0.

        QEMU knows no other 16-bit layouts of the DAC than 5:5:5 (HDR low bits 0) and 5:6:5.
        """
        if not self.extended:
            return 0
        depth = self.sr[SR_EXTENDED_MODE] & SR7_DEPTH
        if depth in {0x02, 0x06}:
            return 16 if self.hidden_dac & 0x0F == 1 else 15
        return {0x04: 24, 0x08: 32}.get(depth, 8)
