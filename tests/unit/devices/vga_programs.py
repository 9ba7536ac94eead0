"""Register programs for a VGA under test, and ways to look at its picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coalesced.devices.vga import Vga

if TYPE_CHECKING:
    from collections.abc import Sequence


VRAM = 256 << 10
IDENTITY = tuple(range(16))


def outb(vga: Vga, port: int, value: int) -> None:
    vga.ports.write(port - 0x3B0, 1, value)


def inb(vga: Vga, port: int) -> int:
    return vga.ports.read(port - 0x3B0, 1)


def set_sr(vga: Vga, index: int, value: int) -> None:
    vga.ports.write(0x3C4 - 0x3B0, 2, index | value << 8)


def set_gr(vga: Vga, index: int, value: int) -> None:
    vga.ports.write(0x3CE - 0x3B0, 2, index | value << 8)


def set_cr(vga: Vga, index: int, value: int) -> None:
    vga.ports.write(0x3D4 - 0x3B0, 2, index | value << 8)


def set_ar(vga: Vga, index: int, value: int) -> None:
    """Write one attribute register and leave the display enabled."""
    inb(vga, 0x3DA)
    outb(vga, 0x3C0, index | 0x20)
    outb(vga, 0x3C0, value)


def small_vga() -> Vga:
    """A chip after reset, with the CRTC at 0x3d4 and 256 KiB."""
    vga = Vga(VRAM)
    outb(vga, 0x3C2, 0x01)
    return vga


def planar_vga() -> Vga:
    """Open all planes to plain writes at window offset 0: write mode 0, full masks."""
    vga = small_vga()
    set_sr(vga, 2, 0x0F)
    set_sr(vga, 4, 0x06)
    set_gr(vga, 6, 0x05)
    set_gr(vga, 8, 0xFF)
    return vga


def show(
    vga: Vga, columns: int, lines: int, *, graphics: bool = True, pitch: int | None = None
) -> None:
    """Show `columns` character clocks of 8 dots by `lines`, byte mode, colours as in memory.

    The attribute palette is the identity. The DAC holds each index's own number, low six bits in
    red and the rest in green, so that `pixels` can tell it. `pitch` counts addresses per row.
    """
    set_sr(vga, 1, 0x01)
    set_gr(vga, 6, 0x05 if graphics else 0x0E)
    set_cr(vga, 0x11, 0x00)
    set_cr(vga, 0x01, columns - 1)
    set_cr(vga, 0x12, (lines - 1) & 0xFF)
    set_cr(vga, 0x07, (lines - 1) >> 7 & 0x02 | (lines - 1) >> 3 & 0x40 | 0x10)
    set_cr(vga, 0x09, 0x40)  # line compare 0x3ff: no split
    set_cr(vga, 0x18, 0xFF)
    set_cr(vga, 0x13, (columns if pitch is None else pitch) // 2)
    set_cr(vga, 0x14, 0x1F)
    set_cr(vga, 0x17, 0xE3)
    for index, value in enumerate(IDENTITY):
        set_ar(vga, index, value)
    set_ar(vga, 0x12, 0x0F)
    outb(vga, 0x3C8, 0)
    for index in range(256):
        for component in (index & 0x3F, index >> 6, 0):
            outb(vga, 0x3C9, component)


def show_text(vga: Vga, columns: int, rows: int, *, glyph_lines: int) -> None:
    """Show a text screen of 8-dot characters, the cursor off, no blinking."""
    show(vga, columns, rows * glyph_lines, graphics=False)
    set_cr(vga, 0x09, 0x40 | (glyph_lines - 1))
    set_cr(vga, 0x0A, 0x20)


def put_cell(vga: Vga, position: int, character: int, attribute: int) -> None:
    """Store a character and its attribute as a text mode's odd/even addressing would."""
    vga.vram[4 * position] = character
    vga.vram[4 * position + 1] = attribute


def put_glyph(vga: Vga, character: int, lines: Sequence[int], *, font: int = 0) -> None:
    """Upload a glyph to plane 2; `font` counts the 8 KiB slots there."""
    for line, bits in enumerate(lines):
        vga.vram[4 * (font * 8192 + character * 32 + line) + 2] = bits


def put_planes(vga: Vga, address: int, *planes: int) -> None:
    """Store up to four plane bytes at one address."""
    vga.vram[4 * address : 4 * address + len(planes)] = planes


def pixels(vga: Vga, frame: int = 0) -> list[list[int]]:
    """DAC indices of the picture, undoing what `show` loaded."""
    picture = vga.render(frame).astype(int)
    rows: list[list[int]] = (picture[:, :, 0] // 4 + picture[:, :, 1] // 4 * 64).tolist()
    return rows


def dots(text: str, *, on: int = 1, off: int = 0) -> list[int]:
    """A line of dots drawn with '#' and '.'."""
    return [on if character == "#" else off for character in text]
