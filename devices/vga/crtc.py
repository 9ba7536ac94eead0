"""One frame of the CRT controller: the address and the glyph line of every scan line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from coalesced.devices.vga.registers import (
    AR10_PANNING_COMPATIBLE,
    AR_MODE,
    AR_PEL_PANNING,
    CR9_DOUBLE_SCAN,
    CR14_DWORD,
    CR17_BYTE,
    CR17_MAP13,
    CR17_MAP14,
    CR_HORIZONTAL_DISPLAY_END,
    CR_LINE_COMPARE,
    CR_MAXIMUM_SCAN_LINE,
    CR_MODE,
    CR_OVERFLOW,
    CR_PRESET_ROW_SCAN,
    CR_UNDERLINE,
    CR_VERTICAL_DISPLAY_END,
    GR6_GRAPHICS,
    GR_MISC,
    SR1_8_DOTS,
    SR1_HALF_DOT_CLOCK,
    SR_CLOCKING_MODE,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coalesced.devices.vga.registers import Registers

LAST_REGISTER: Final = 0x18
"""The highest index of a VGA's CRTC. Chips with extensions have more, also some that name them."""

WIDEST: Final = 2048
"""Dots of a line that are drawn: CR1 could ask for 4608, which no monitor of a VGA shows."""

UNPROGRAMMED: Final = (480, 640)
"""(height, width) shown before the CRTC is programmed; QEMU's window starts in this size too."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """The picture's size, before panning and such move anything in it."""

    columns: int
    """Character clocks per line that are displayed."""
    dots: int
    """Dots per character clock: 8, in text also 9."""
    dot_repeat: int
    """2 where the dot clock is halved (SR1 bit 3): each dot is two of the picture's."""
    lines: int
    """Scan lines that are displayed, 1 to 2048."""

    @property
    def width(self) -> int:
        """Dots per line of the picture."""
        return self.columns * self.dots * self.dot_repeat


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive scan lines that are panned alike: the screen, or one side of a split."""

    rows: NDArray[np.intp]
    """Per scan line: the row of characters, counted over the whole picture."""
    addresses: NDArray[np.intp]
    """Per scan line: the address counter at its left edge."""
    scans: NDArray[np.intp]
    """Per scan line: the row scan counter, 0 to 31."""
    pan: int
    """Dots that the picture moves to the left, 0 to 8."""


def is_programmed(r: Registers) -> bool:
    """Say whether the CRTC holds anything since reset; if not, there is no picture to size."""
    return any(r.cr[: LAST_REGISTER + 1])


def geometry(r: Registers) -> Geometry:
    """Read the size of the picture from CR1, CR12, CR7, SR1.

    Graphics always has 8 dots per character clock, and twice the lines if interlaced, as in QEMU.
    Half the dot clock doubles 9-dot characters to 18 like the chip does; QEMU draws 16. CR17 bit 2
    (vertical counter at half rate) and the clock select have no effect, as in QEMU.
    """
    clocking = r.sr[SR_CLOCKING_MODE]
    graphics = r.gr[GR_MISC] & GR6_GRAPHICS
    dots = 8 if graphics or clocking & SR1_8_DOTS else 9
    dot_repeat = 2 if clocking & SR1_HALF_DOT_CLOCK else 1
    columns = min(r.cr[CR_HORIZONTAL_DISPLAY_END] + 1, WIDEST // (dots * dot_repeat))
    lines = _display_end(r) + 1
    if graphics and r.interlaced:
        lines *= 2
    return Geometry(columns, dots, dot_repeat, lines)


def parts(r: Registers, lines: int) -> list[Part]:
    """Run the counters through a frame of `lines` scan lines.

    Line compare restarts address and row scan counter at 0 below the line it names. (In QEMU the
    row scan counter runs on, and a text screen splits only between rows of characters.)
    """
    cr = r.cr
    last_scan = cr[CR_MAXIMUM_SCAN_LINE] & 0x1F
    double = bool(cr[CR_MAXIMUM_SCAN_LINE] & CR9_DOUBLE_SCAN)
    split = min(_line_compare(r) + 1, lines)
    address = r.display_start
    pitch = r.row_pitch
    scan = cr[CR_PRESET_ROW_SCAN] & 0x1F
    row = 0
    second = False
    counters = np.empty((3, lines), np.intp)
    for line in range(lines):
        if line == split:
            address = scan = 0
            second = False
            row += 1
        counters[:, line] = row, address, scan
        if double and not second:
            second = True
            continue
        second = False
        if scan == last_scan:
            scan = 0
            row += 1
            address += pitch
        else:
            scan = (scan + 1) & 0x1F
    byte_pan = (cr[CR_PRESET_ROW_SCAN] >> 5) & 3
    pan = _pel_pan(r)
    frame = [_part(counters[:, :split], byte_pan, pan)]
    if split < lines:
        if r.ar[AR_MODE] & AR10_PANNING_COMPATIBLE:
            byte_pan = pan = 0
        frame.append(_part(counters[:, split:], byte_pan, pan))
    return frame


def addresses(r: Registers, part: Part, columns: int) -> NDArray[np.intp]:
    """Return the address of each character clock, shape (lines of the part, columns).

    Only wrapping and the row scan substitution for CGA and Hercules layouts (CR17 bits 0 and 1)
    are left to do here. Byte, word and double word addressing are no shift in this memory: its
    layout has no gaps where chain 4 and odd/even leave some on the chip, so that the counter
    itself is the address, as in QEMU. But they say which counter bit comes out on address lines
    13 and 14. (QEMU 7.2 takes line 14 from counter bit 13 always, and knows no double words here.)
    """
    address: NDArray[np.intp] = part.addresses[:, np.newaxis] + np.arange(columns)
    mode = r.cr[CR_MODE]
    shift = 2 if r.cr[CR_UNDERLINE] & CR14_DWORD else 0 if mode & CR17_BYTE else 1
    scans = part.scans[:, np.newaxis]
    if not mode & CR17_MAP13:
        line_13 = 1 << (13 - shift)
        address = (address & ~line_13) | ((scans & 1) * line_13)
    if not mode & CR17_MAP14:
        line_14 = 1 << (14 - shift)
        address = (address & ~line_14) | ((scans >> 1 & 1) * line_14)
    address &= r.address_mask
    return address


def _part(counters: NDArray[np.intp], byte_pan: int, pan: int) -> Part:
    rows, starts, scans = counters
    return Part(rows, starts + byte_pan, scans, pan)


def _display_end(r: Registers) -> int:
    overflow = r.cr[CR_OVERFLOW]
    return r.cr[CR_VERTICAL_DISPLAY_END] | (overflow & 0x02) << 7 | (overflow & 0x40) << 3


def _line_compare(r: Registers) -> int:
    return (
        r.cr[CR_LINE_COMPARE]
        | (r.cr[CR_OVERFLOW] & 0x10) << 4
        | (r.cr[CR_MAXIMUM_SCAN_LINE] & 0x40) << 3
    )


def _pel_pan(r: Registers) -> int:
    """Dots to the left by AR13, which QEMU 7.2 ignores.

    With 9 dots, 8 means none and 0 to 7 mean 1 to 8. With 256 colours a pixel is two dots wide:
    the even values move it by 0 to 3 pixels.
    """
    pan = r.ar[AR_PEL_PANNING] & 0x0F
    if geometry(r).dots == 9:
        return pan + 1 if pan < 8 else 0
    return pan & 7
