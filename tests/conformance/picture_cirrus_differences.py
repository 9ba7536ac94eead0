"""Where the picture of a Cirrus is the chip's and not QEMU's."""

from __future__ import annotations

import numpy as np
from conformance_script import Script
from picture_changes import interleaved
from picture_cirrus import BANKS, PACKED, PLANAR, WRAPPING, Cursor, Screen
from picture_difference import Absent, Difference
from picture_reference import Picture
from picture_vbe_differences import fifteen_bits
from picture_vga import TEXT_8

_TEXT = TEXT_8.but(columns=8, lines=48, pitch=32)
_SPLITTING = {**WRAPPING, 0x07: 0x00, 0x09: 0x0F, 0x18: 31}
_OUTSIDE = Cursor(2047, 2047)
"""On, so that QEMU takes the way of the chip, but not seen."""


def _split(picture: Picture) -> Picture:
    return np.concatenate([picture[:21], picture[:-21]])


def _doubled(picture: Picture) -> Picture:
    return picture.repeat(2, axis=0)[: len(picture)]


def _banks(name: str, count: int, sr7: int) -> tuple[Script, ...]:
    """The lines of each bank on their own: bank 1 begins at address 2000, bank 2 at 4000."""
    mode = PACKED.but(lines=PACKED.lines // count)
    return tuple(
        Screen(f"{name}-bank-{bank}", mode, sr7=sr7, cr={0x0C: bank * 0x20}, filled=BANKS).script()
        for bank in range(count)
    )


def _planar(bits: int, sr7: int, hidden_dac: int = 0) -> Difference:
    name = f"{bits}-bits-by-planes"
    return Difference(
        Screen(name, PLANAR, sr7=sr7, hidden_dac=hidden_dac).script(),
        f"SR7 for {bits} bits, GR5 bit 6 clear, cursor off",
        "packed pixels, as if GR5 bit 6 were set; with the cursor on, planes",
        "planes, whether the cursor is on or off",
        "5446, 4.55: GR5 bits 6-5 say how pixels are shifted out; 8.2 has planes unsupported there",
        (
            Screen(
                f"{name}-cursor", PLANAR, sr7=sr7, hidden_dac=hidden_dac, cursor=_OUTSIDE
            ).script(),
        ),
    )


DIFFERENCES: tuple[Difference, ...] = (
    fifteen_bits(Screen("15-bits", sr7=0x07).script()),
    Difference(
        Screen("16-bits-cursor", sr7=0x07, hidden_dac=0xC1, cursor=_OUTSIDE).script(),
        "SR12 bit 0 in 16 bits",
        "zeros for the missing low bits while the cursor is on",
        "the high bits in place of the missing ones, with the cursor and without",
        "no document: the cursor leaves the other pixels as they are",
        (Screen("16-bits", sr7=0x07, hidden_dac=0xC1).script(),),
    ),
    Difference(
        Screen("16-bits-wraps", sr7=0x07, hidden_dac=0xC1, cr=WRAPPING).script(),
        "CR0C, CR0D, CR1B, CR1D in 16 bits",
        "zeros for the missing low bits where the picture wraps",
        "the high bits in place of the missing ones, wherever the pixel is",
        "no document: the place in memory does not change a pixel",
        (
            Screen(
                "16-bits-last-lines",
                PACKED.but(lines=2),
                sr7=0x07,
                hidden_dac=0xC1,
                cr=WRAPPING,
            ).script(),
            Screen("16-bits", sr7=0x07, hidden_dac=0xC1).script(),
        ),
        lambda last, first: np.concatenate([last, first[:-2]]),
    ),
    _planar(16, 0x07, 0xC1),
    _planar(24, 0x05),
    _planar(32, 0x09),
    Difference(
        Screen("32-bits-double-scan", sr7=0x09, cr={0x09: 0xC0}).script(),
        "CR9 in 16, 24, 32 bits",
        "each line once",
        "each line as often as CR9 says",
        "5446, 4.30: every scan line is displayed twice",
        (Screen("32-bits", sr7=0x09).script(),),
        _doubled,
    ),
    Difference(
        Screen("32-bits-split", sr7=0x09, cr={0x07: 0x00, 0x09: 0x00, 0x18: 20}).script(),
        "CR18 in 16, 24, 32 bits",
        "no split",
        "address 0 below the line that CR18 names",
        "5446, 4.45: screen B begins at location 0",
        (Screen("32-bits", sr7=0x09).script(),),
        _split,
    ),
    Difference(
        Screen("text-wraps", _TEXT, sr7=0x00, cr=WRAPPING).script(),
        "CR0C, CR0D, CR1B, CR1D in text",
        "black behind the end of memory",
        "address 0 behind the end of memory, as in graphics",
        "5446, 8.32: the address wraps at the size of memory",
        (Screen("text-splits", _TEXT, sr7=0x00, cr=_SPLITTING).script(),),
    ),
    Difference(
        Screen("8-bits-preset-row", cr={0x08: 0x01, 0x09: 0x43}).script(),
        "CR8 bits 4-0 with packed pixels",
        "the first row whole",
        "the first row from its line 1",
        "5446, 4.29: the scan line where the first row begins",
        (Screen("8-bits-52-lines", PACKED.but(lines=52), cr={0x09: 0x43}).script(),),
        lambda picture: picture[1:49],
    ),
    Difference(
        Screen("8-bits-byte-panning", cr={0x08: 0x40}).script(),
        "CR8 bits 6-5 with packed pixels",
        "the picture in its place",
        "the picture 2 addresses, which are 8 bytes, to the left",
        "FreeVGA, CRTC 08: added to the start address; 5446, 4.29 knows steps of 8 pixels only",
        (Screen("8-bits-start-2", cr={0x0D: 0x02}).script(),),
    ),
    Difference(
        Screen(
            "32-bits-row-scan-address", sr7=0x09, cr={0x09: 0x41, 0x17: 0xE2}, filled=BANKS
        ).script(),
        "CR17 bit 0 in 16, 24, 32 bits",
        "one address for all lines",
        "rows of two lines, the second from an address with line 13 set",
        "5446, 4.44: row scan bit 0 put in, whatever the mode",
        _banks("32-bits", 2, 0x09),
        interleaved,
    ),
    Difference(
        Screen("8-bits-hercules", cr={0x09: 0x43, 0x17: 0xE0}, filled=BANKS).script(),
        "CR17 bits 1 and 0 with packed pixels",
        "both row scan bits on address line 13",
        "the second row scan bit on address line 14",
        "5446, 4.44: row scan bit 1 for address bit 14",
        _banks("8-bits", 4, 0x01),
        interleaved,
    ),
)

ABSENT: tuple[Absent, ...] = (
    Absent(
        "CR17 bits 1-0 with packed pixels",
        "row scan bits put into each address",
        "where a line begins, as in QEMU",
        "FreeVGA, CRTC 17",
    ),
    Absent(
        "CR1B bit 1 clear",
        "the display wraps after 64 Ki addresses",
        "at the end of memory, as in QEMU",
        "5446, 8.32",
    ),
    Absent(
        "SR1 bit 3 with packed pixels",
        "dots that last twice as long",
        "a picture as wide as CR1 says, as in QEMU",
        "5446, 4.16",
    ),
    Absent(
        "AR13 with packed pixels",
        "a shift by pixels, not described for these depths",
        "no panning, as in QEMU",
        "5446, 4.64",
    ),
    Absent(
        "hidden DAC bits 7-4 and 3-1",
        "grey levels, a mix of palette and 15 bits, pixels of two halves, power-down",
        "SR7 says the depth, bits 3-0 whether 15 or 16 bits",
        "5446, 8.37",
    ),
    Absent("CR1A bits 3-2, CR1D bits 6-0", "overlays", "no such input", "5446, 8.31, 8.34"),
)
