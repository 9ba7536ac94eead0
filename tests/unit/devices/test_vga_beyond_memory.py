"""Pictures whose registers point past the end of video memory."""

from __future__ import annotations

import pytest
from vga_programs import VRAM, outb, set_ar, set_cr, set_gr, set_sr

from coalesced.devices.vga import Vga

_CRTC = bytes.fromhex("5f4f50825480 0b3e0040000000000000 ea8cdf2800e704e3ff".replace(" ", ""))


def _mode_12h() -> Vga:
    vga = Vga(VRAM)
    outb(vga, 0x3C2, 0xE3)
    for index, value in enumerate((3, 1, 0x0F, 0, 6)):
        set_sr(vga, index, value)
    set_cr(vga, 0x11, 0x0E)
    for index, value in enumerate(_CRTC):
        set_cr(vga, index, value)
    for index, value in enumerate((0, 0, 0, 0, 0, 0, 5, 0x0F, 0xFF)):
        set_gr(vga, index, value)
    for index in range(16):
        set_ar(vga, index, index)
    set_ar(vga, 0x10, 1)
    set_ar(vga, 0x12, 0x0F)
    outb(vga, 0x3C8, 0)
    for component in range(48):
        outb(vga, 0x3C9, component)
    return vga


@pytest.mark.parametrize("line_compare", [0x00, 0x01, 0xE0, 0x3FF])
@pytest.mark.parametrize("offset", [0x00, 0x28, 0xFF])
@pytest.mark.parametrize("start", [0x0000, 0xFF00, 0xFFFF])
def test_cve_2017_13672_the_display_wraps(start: int, offset: int, line_compare: int) -> None:
    """A start address and a pitch that leave the 64 Ki addresses, split anywhere: CVE-2017-13672
    read beyond video memory here. Every pixel comes from memory, wrapped around."""
    vga = _mode_12h()
    vga.vram[:] = 0xFF  # colour 15 wherever the picture comes from
    set_cr(vga, 0x0C, start >> 8)
    set_cr(vga, 0x0D, start & 0xFF)
    set_cr(vga, 0x13, offset)
    set_cr(vga, 0x18, line_compare & 0xFF)
    set_cr(vga, 0x07, 0x2E | (line_compare >> 8 & 1) << 4)
    set_cr(vga, 0x09, (line_compare >> 9 & 1) << 6)
    picture = vga.render()
    assert picture.shape == (480, 640, 3)
    assert (picture == picture[0, 0]).all()
    assert picture[0, 0].any()
