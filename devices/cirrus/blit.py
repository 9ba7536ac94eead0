"""One blit as the registers describe it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from coalesced.devices.cirrus.registers import (
    GR30_COLOR_EXPAND,
    GR30_PIXEL_WIDTH,
    GR30_TRANSPARENT,
    GR_BACKGROUND_1,
    GR_BACKGROUND_2,
    GR_BACKGROUND_3,
    GR_BLT_DST_PITCH,
    GR_BLT_DST_START,
    GR_BLT_HEIGHT,
    GR_BLT_MODE,
    GR_BLT_MODE_EXTENSIONS,
    GR_BLT_ROP,
    GR_BLT_SRC_PITCH,
    GR_BLT_SRC_START,
    GR_BLT_WIDTH,
    GR_FOREGROUND_1,
    GR_FOREGROUND_2,
    GR_FOREGROUND_3,
)

if TYPE_CHECKING:
    from coalesced.devices.cirrus.registers import CirrusRegisters


@dataclass(frozen=True, slots=True)
class Blit:
    """The registers as they were when a blit started; those it reads later are not here."""

    width: int
    """Bytes per row of the destination."""
    height: int
    dst: int
    dst_pitch: int
    src: int
    src_pitch: int
    pixel: int
    """Bytes per pixel, 1 to 4."""
    mode: int
    """GR30."""
    extensions: int
    """GR33."""
    rop: int
    """GR32."""
    foreground: int
    background: int


@dataclass(frozen=True, slots=True)
class Skip:
    """Number of bytes that GR2F skips at the left of each row."""

    pixels: int
    """Bits of a monochrome source."""
    bytes: int
    """Bytes of the destination."""


def skip_of(register: int, b: Blit) -> Skip:
    """Decode GR2F: pixels, or with 24-bit pixels bytes of the destination.

    QEMU counts pixels also in 24 bits if a monochrome source is not transparent, and takes the
    bytes of a colour pattern for pixels of the pattern.
    """
    opaque_expansion = b.mode & (GR30_COLOR_EXPAND | GR30_TRANSPARENT) == GR30_COLOR_EXPAND
    if b.pixel != 3 or opaque_expansion:
        return Skip(register & 7, (register & 7) * b.pixel)
    skipped = register & 0x1F
    return Skip(skipped // 3 if b.mode & GR30_COLOR_EXPAND else skipped, skipped)


def read_blit(r: CirrusRegisters, mask: int) -> Blit:
    """Take a blit from the registers; `mask` is that of addresses in video memory."""
    mode = r.gr[GR_BLT_MODE]
    pixel = ((mode & GR30_PIXEL_WIDTH) >> 4) + 1
    bits = (1 << (8 * pixel)) - 1
    gr = r.gr
    foreground = (
        r.shadow_gr1
        | gr[GR_FOREGROUND_1] << 8
        | gr[GR_FOREGROUND_2] << 16
        | gr[GR_FOREGROUND_3] << 24
    )
    background = (
        r.shadow_gr0
        | gr[GR_BACKGROUND_1] << 8
        | gr[GR_BACKGROUND_2] << 16
        | gr[GR_BACKGROUND_3] << 24
    )
    return Blit(
        width=r.field(GR_BLT_WIDTH, 2) + 1,
        height=r.field(GR_BLT_HEIGHT, 2) + 1,
        dst=r.field(GR_BLT_DST_START, 3) & mask,
        dst_pitch=r.field(GR_BLT_DST_PITCH, 2),
        src=r.field(GR_BLT_SRC_START, 3) & mask,
        src_pitch=r.field(GR_BLT_SRC_PITCH, 2),
        pixel=pixel,
        mode=mode,
        extensions=gr[GR_BLT_MODE_EXTENSIONS],
        rop=gr[GR_BLT_ROP],
        foreground=foreground & bits,
        background=background & bits,
    )
