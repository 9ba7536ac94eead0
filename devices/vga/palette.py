"""From pixel values to colours: attribute palette, colour select, DAC."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from coalesced.devices.vga.registers import AR10_P54S, AR_COLOR_SELECT, AR_MODE, AR_PLANE_ENABLE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coalesced.devices.vga.registers import Registers

_EIGHT_BITS: Final = np.array(
    [(value & 0x3F) << 2 | (value & 0x3F) >> 4 for value in range(256)], np.uint8
)


def expand_6bit(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the 8-bit brightness of DAC values, any shape; of each the low 6 bits count.

    Linear, as the converter is: 0 becomes 0x00, 0x15 0x55, 0x2a 0xaa, 0x3f 0xff. QEMU fills both
    low bits with bit 0 instead (0x2a becomes 0xa8).
    """
    return _EIGHT_BITS[values]


def dac_colors(r: Registers) -> NDArray[np.uint8]:
    """Return the DAC's 256 colours as RGB of 8 bits, shape (256, 3).

    The DAC has 6 bits per component. The PEL mask does not exist, as in QEMU.
    """
    return expand_6bit(np.frombuffer(bytes(r.palette), np.uint8)).reshape(256, 3)


def attribute_colors(r: Registers) -> NDArray[np.uint8]:
    """Return the colours of the 16 pixel values of the 4-bit modes, shape (16, 3).

    A plane that AR12 closes reads as 0. QEMU obeys AR12 in graphics only, the chip in text too.
    """
    select = r.ar[AR_COLOR_SELECT]
    plane_enable = r.ar[AR_PLANE_ENABLE] & 0x0F
    indices = []
    for pixel in range(16):
        value = r.ar[pixel & plane_enable]
        if r.ar[AR_MODE] & AR10_P54S:
            indices.append((select & 0x0F) << 4 | value & 0x0F)
        else:
            indices.append((select & 0x0C) << 4 | value & 0x3F)
    return dac_colors(r)[indices]


def paired_colors(r: Registers) -> NDArray[np.uint8]:
    """Return the colours of the 256 pixel values of the 8-bit modes, shape (256, 3).

    The attribute controller gets a pixel as two values of 4 bits, one after the other. Each goes
    through AR12 and the palette, and four bits of each make the DAC's index. QEMU passes the pixel
    on as it is.
    """
    plane_enable = r.ar[AR_PLANE_ENABLE] & 0x0F
    halves = np.array([r.ar[half & plane_enable] & 0x0F for half in range(16)])
    indices: NDArray[np.intp] = (halves[:, np.newaxis] << 4 | halves).ravel()
    return dac_colors(r)[indices]
