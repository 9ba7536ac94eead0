"""The VGA's registers: names, widths, state after power-on.

Names are those of the IBM VGA datasheet: SR sequencer, GR graphics controller, CR CRT controller,
AR attribute controller. Which bits stick follows QEMU 7.2, the reference of this model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from coalesced.devices.bus.device import StateValue

# Sequencer
SR_RESET: Final = 0x00
SR_CLOCKING_MODE: Final = 0x01
SR_MAP_MASK: Final = 0x02
SR_CHARACTER_MAP: Final = 0x03
SR_MEMORY_MODE: Final = 0x04
SR1_8_DOTS: Final = 0x01
SR1_HALF_DOT_CLOCK: Final = 0x08
SR1_SCREEN_OFF: Final = 0x20
SR4_CHAIN_4: Final = 0x08

# Graphics controller
GR_SET_RESET: Final = 0x00
GR_ENABLE_SET_RESET: Final = 0x01
GR_COLOR_COMPARE: Final = 0x02
GR_DATA_ROTATE: Final = 0x03
GR_READ_MAP: Final = 0x04
GR_MODE: Final = 0x05
GR_MISC: Final = 0x06
GR_COLOR_DONT_CARE: Final = 0x07
GR_BIT_MASK: Final = 0x08
GR5_READ_MODE_1: Final = 0x08
GR5_ODD_EVEN: Final = 0x10
GR5_SHIFT_INTERLEAVED: Final = 0x20
GR5_SHIFT_256: Final = 0x40
GR6_GRAPHICS: Final = 0x01

# CRT controller
CR_HORIZONTAL_DISPLAY_END: Final = 0x01
CR_OVERFLOW: Final = 0x07
CR_PRESET_ROW_SCAN: Final = 0x08
CR_MAXIMUM_SCAN_LINE: Final = 0x09
CR_CURSOR_START: Final = 0x0A
CR_CURSOR_END: Final = 0x0B
CR_START_HIGH: Final = 0x0C
CR_START_LOW: Final = 0x0D
CR_CURSOR_HIGH: Final = 0x0E
CR_CURSOR_LOW: Final = 0x0F
CR_VERTICAL_SYNC_END: Final = 0x11
CR_VERTICAL_DISPLAY_END: Final = 0x12
CR_OFFSET: Final = 0x13
CR_UNDERLINE: Final = 0x14
CR_MODE: Final = 0x17
CR_LINE_COMPARE: Final = 0x18
CR9_DOUBLE_SCAN: Final = 0x80
CR0A_CURSOR_OFF: Final = 0x20
CR11_PROTECT: Final = 0x80
CR14_DWORD: Final = 0x40
CR17_MAP13: Final = 0x01
CR17_MAP14: Final = 0x02
CR17_BYTE: Final = 0x40

# Attribute controller
AR_MODE: Final = 0x10
AR_OVERSCAN: Final = 0x11
AR_PLANE_ENABLE: Final = 0x12
AR_PEL_PANNING: Final = 0x13
AR_COLOR_SELECT: Final = 0x14
AR_REGISTERS: Final = 0x15
AR10_LINE_GRAPHICS: Final = 0x04
AR10_BLINK: Final = 0x08
AR10_PANNING_COMPATIBLE: Final = 0x20
AR10_P54S: Final = 0x80
AR_INDEX_PAS: Final = 0x20
"""Palette address source, in the index itself: 1 shows the screen, 0 blanks it."""

MISC_COLOR: Final = 0x01
"""Miscellaneous output: CRTC and status 1 answer at 0x3dx (1) or 0x3bx (0)."""

ST01_TOGGLE: Final = 0x09
"""Vertical retrace and display enable of input status 1: QEMU flips both on every read."""

SR_MASK: Final = bytes((0x03, 0x3D, 0x0F, 0x3F, 0x0E, 0x00, 0x00, 0xFF))
GR_MASK: Final = bytes((0x0F, 0x0F, 0x0F, 0x1F, 0x03, 0x7B, 0x0F, 0x0F, 0xFF)) + bytes(7)
AR_MASK: Final = bytes((0x3F,) * 16 + (0xEF, 0xFF, 0x3F, 0x0F, 0x0F))
MISC_MASK: Final = 0xEF
FCR_MASK: Final = 0x10


class Registers:
    """Everything the guest can set but video memory.

    `generation` counts the changes that may alter what a write to video memory does: every change
    of SR, GR or the latches adds one, so that what is derived from them can be kept.
    The arrays are never replaced, only written into.
    """

    __slots__ = (
        "ar",
        "ar_flip_flop",
        "ar_index",
        "cr",
        "cr_index",
        "dac_cache",
        "dac_read_index",
        "dac_state",
        "dac_sub_index",
        "dac_write_index",
        "fcr",
        "generation",
        "gr",
        "gr_index",
        "latch",
        "misc",
        "palette",
        "sr",
        "sr_index",
        "st01",
    )

    def __init__(self, sr_count: int = len(SR_MASK), gr_count: int = len(GR_MASK)) -> None:
        """A chip with more registers than a VGA says how many its indices reach."""
        self.sr = bytearray(sr_count)
        self.gr = bytearray(gr_count)
        self.cr = bytearray(256)  # QEMU stores all that an 8-bit index reaches
        self.ar = bytearray(AR_REGISTERS)
        self.palette = bytearray(256 * 3)
        self.dac_cache = bytearray(3)
        self.generation = 0
        self.latch = 0
        self.reset()

    def reset(self) -> None:
        """Clear every register; the latches keep what they hold, as in QEMU."""
        for array in (self.sr, self.gr, self.cr, self.ar, self.palette, self.dac_cache):
            array[:] = bytes(len(array))
        self.sr_index = 0
        self.gr_index = 0
        self.cr_index = 0
        self.ar_index = 0
        self.ar_flip_flop = 0
        self.misc = 0
        self.fcr = 0
        self.st01 = 0
        self.dac_state = 0
        self.dac_sub_index = 0
        self.dac_read_index = 0
        self.dac_write_index = 0
        self.generation += 1

    # Counters of the CRTC. A chip with extensions has more bits.

    @property
    def display_start(self) -> int:
        """The address, in units of four planes, of the picture's first byte."""
        return self.cr[CR_START_HIGH] << 8 | self.cr[CR_START_LOW]

    @property
    def row_pitch(self) -> int:
        """Addresses from a row of the picture to the next."""
        return self.cr[CR_OFFSET] * 2

    @property
    def interlaced(self) -> bool:
        """Whether a frame has two fields of the lines that CR12 names."""
        return False

    @property
    def pairs_through_palette(self) -> bool:
        """Whether 256 colours, too, go through the attribute controller."""
        return True

    @property
    def address_mask(self) -> int:
        """The bits that the address counter has: 64 Ki addresses, where the display wraps.

        QEMU 7.2 runs on into the memory behind; this model follows the chip.
        """
        return 0xFFFF

    def state(self) -> dict[str, StateValue]:
        """All registers by name, without `st01`, which counts reads in place of a clock."""
        return {
            "sr": bytes(self.sr),
            "gr": bytes(self.gr),
            "cr": bytes(self.cr),
            "ar": bytes(self.ar),
            "palette": bytes(self.palette),
            "dac_cache": bytes(self.dac_cache),
            "sr_index": self.sr_index,
            "gr_index": self.gr_index,
            "cr_index": self.cr_index,
            "ar_index": self.ar_index,
            "ar_flip_flop": self.ar_flip_flop,
            "latch": self.latch,
            "misc": self.misc,
            "fcr": self.fcr,
            "dac_state": self.dac_state,
            "dac_sub_index": self.dac_sub_index,
            "dac_read_index": self.dac_read_index,
            "dac_write_index": self.dac_write_index,
        }
