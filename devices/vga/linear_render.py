"""The picture of a DISPI mode: packed pixels, line after line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from coalesced.devices.vga.palette import attribute_colors, dac_colors
from coalesced.devices.vga.registers import AR_INDEX_PAS
from coalesced.devices.vga.vbe import INDEX_BPP, INDEX_XRES, INDEX_YRES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coalesced.devices.vga.registers import Registers
    from coalesced.devices.vga.vbe import Vbe

    U8 = NDArray[np.uint8]


def render_vbe(r: Registers, vbe: Vbe, vram: U8, big_endian: bool = False) -> U8:
    """Return the picture as RGB of shape (yres, xres, 3).

    As in QEMU it begins at a multiple of 4 bytes, wraps at the end of video memory, and is black
    until AR index bit 5 turns the palette on. `big_endian` is the byte order of pixels above 8
    bits.
    """
    width, height = vbe.registers[INDEX_XRES], vbe.registers[INDEX_YRES]
    if not r.ar_index & AR_INDEX_PAS:
        return np.zeros((height, width, 3), np.uint8)
    bpp = vbe.registers[INDEX_BPP]
    lines = _lines(vbe, vram, height, width * (16 if bpp == 15 else bpp) // 8)
    if bpp == 4:
        return attribute_colors(r)[_planar(lines)]
    if bpp == 8:
        return _colors(r, vbe)[lines]
    if bpp in {15, 16}:
        return _high_color(lines.view(">u2" if big_endian else "<u2"), 5 if bpp == 15 else 6)
    pixels = lines.reshape(height, width, bpp // 8)
    # In memory: blue, green, red, and at 32 bpp a fourth byte that is not looked at.
    order = slice(-3, None) if big_endian else slice(2, None, -1)
    return np.ascontiguousarray(pixels[:, :, order])


def _lines(vbe: Vbe, vram: U8, height: int, length: int) -> U8:
    """Fetch the displayed bytes of each line, shape (height, length)."""
    pitch = vbe.line_length
    end = vbe.start + (height - 1) * pitch + length
    if end <= len(vram):
        strided = np.lib.stride_tricks.as_strided(
            vram[vbe.start :], (height, length), (pitch, 1), writeable=False
        )
        return np.ascontiguousarray(strided)
    starts = vbe.start + np.arange(height)[:, np.newaxis] * pitch
    wrapped: U8 = vram[starts + np.arange(length) & len(vram) - 1]
    return wrapped


def _colors(r: Registers, vbe: Vbe) -> U8:
    """Return the DAC's colours, of 6 or 8 bits as the mode says."""
    if vbe.dac_8bit:
        return np.frombuffer(bytes(r.palette), np.uint8).reshape(256, 3)
    return dac_colors(r)


def _planar(lines: U8) -> U8:
    """Pixel values of 4 bits: a byte of each plane in turn makes eight pixels, high bits first."""
    planes = np.unpackbits(lines.reshape(len(lines), -1, 4, 1), axis=3)
    pixels: U8 = (planes << np.arange(4, dtype=np.uint8)[:, np.newaxis]).sum(axis=2, dtype=np.uint8)
    return pixels.reshape(len(lines), -1)


def _high_color(pixels: NDArray[np.uint16], green_bits: int) -> U8:
    """Expand 5 bits of red, 5 or 6 of green, 5 of blue; the high bits fill the missing ones.

    QEMU does so with 16 bits, but with 15 leaves the missing bits 0, so that its white is grey.
    """
    picture = np.empty((*pixels.shape, 3), np.uint8)
    red = pixels >> (5 + green_bits) & 0x1F
    green = pixels >> 5 & (1 << green_bits) - 1
    blue = pixels & 0x1F
    picture[:, :, 0] = red << 3 | red >> 2
    picture[:, :, 1] = green << (8 - green_bits) | green >> (2 * green_bits - 8)
    picture[:, :, 2] = blue << 3 | blue >> 2
    return picture
