"""A guest that draws on a Cirrus CL-GD5446: a city by night, mostly by its blitter.

It finds the card at PCI 00:02.0 and places its BARs itself. The blitter is programmed through its
registers at 0xb8000, which lie inside the coalesced window: blits start from queued writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from coalesced.devices.cirrus.registers import (
    GR30_BACKWARDS,
    GR30_COLOR_EXPAND,
    GR30_FROM_SYSTEM,
    GR30_PATTERN,
    GR30_TRANSPARENT,
    GR31_START,
    GR33_SOLID_FILL,
    GR_EXTENSIONS,
    GR_OFFSET_0,
    GRB_BY_8,
    GRB_EXTENDED_WRITE_MODES,
    SR7_EXTENDED,
    SR12_CURSOR_ON,
    SR12_HIDDEN_COLORS,
    SR17_REGISTERS_IN_MEMORY,
    SR_CONFIGURATION,
    SR_CURSOR_ATTRIBUTES,
    SR_CURSOR_PATTERN,
    SR_CURSOR_X,
    SR_CURSOR_Y,
    SR_EXTENDED_MODE,
    SR_UNLOCK,
    VRAM_SIZE,
)
from coalesced.hv.vcpu import Vcpu
from coalesced.tools.chance import generator
from coalesced.tools.guests.mode12h import (
    ATTRIBUTE,
    CRTC,
    DAC_DATA,
    DAC_WRITE_INDEX,
    GR_MODE,
    SEQUENCER,
    STATUS_1,
    WINDOW,
    graphics,
    set_mode,
)

WIDTH: Final = 640
HEIGHT: Final = 480
PITCH: Final = WIDTH  # bytes per line, 8 bits per pixel
SHORE: Final = 350  # the first line of water
LFB: Final = 0xE0000000
MMIO: Final = 0xE4000000
REGISTERS: Final = 0xB8000
SCRATCH: Final = HEIGHT * PITCH  # memory below the screen

CONFIG_ADDRESS: Final = 0xCF8
CONFIG_DATA: Final = 0xCFC
CARD: Final = 0x80001000  # configuration space of 00:02.0

ROP_COPY: Final = 0x0D
ROP_OR: Final = 0x6D
CURSOR_AT: Final = (470, 200)

# Palette: 64 shades of sky, 32 of moon, then these.
SKY: Final = 0
MOON: Final = 64
WALL, WALL_FAR, WINDOW_LIT, WINDOW_DIM, STAR, TITLE, SHADOW = range(96, 103)
WATER: Final = 128
"""Bit 7 is set by a raster operation: colours from here are those of the sky, under water."""

# 8 x 8 letters, a byte per line, leftmost dot in bit 7.
_LETTERS: Final = {
    "C": "3c6660606060663c",
    "L": "60606060606060 7e".replace(" ", ""),
    "-": "0000007e00000000",
    "G": "3c66606e6666663c",
    "D": "786c66666666 6c78".replace(" ", ""),
    "5": "7e607c060606663c",
    "4": "0c1c3c6c7e0c0c0c",
    "6": "3c66607c6666663c",
    " ": "0000000000000000",
}
_WINDOWS: Final = bytes.fromhex("0066660000666600")
_RIPPLES: Final = bytes.fromhex("0000f00000000f00")


def draw(vcpu: Vcpu) -> None:
    """Draw with linear writes, extended write modes, and every kind of blit."""
    _place(vcpu)
    _set_mode_256(vcpu)
    _sky(vcpu)
    _stars(vcpu)
    blitter = Blitter(vcpu)
    _moon(blitter)
    _city(blitter)
    _water(blitter)
    _title(blitter, "CL-GD5446", 176, 24)
    _cursor(vcpu)


class Blitter:
    """The engine's registers at 0xb8000 (SR17 bit 2), written as double words."""

    def __init__(self, vcpu: Vcpu) -> None:
        self.vcpu = vcpu

    def start(
        self,
        mode: int,
        dst: int,
        width: int,
        height: int,
        *,
        src: int = 0,
        colors: tuple[int, int] = (0, 0),
        rop: int = ROP_COPY,
        extensions: int = 0,
        key: int = 0,
        src_pitch: int = PITCH,
    ) -> None:
        """Start a blit of `width` x `height` pixels; `colors` are foreground and background."""
        foreground, background = colors
        registers = (
            (0x00, background),
            (0x04, foreground),
            (0x08, width - 1 | height - 1 << 16),
            (0x0C, PITCH | src_pitch << 16),
            (0x10, dst),
            (0x14, src),
            (0x18, mode | rop << 16 | extensions << 24),
            (0x1C, key),
            (0x40, 0),
            (0x40, GR31_START),
        )
        offsets, values = zip(*registers, strict=True)
        self.vcpu.store_many(REGISTERS + np.array(offsets), values, size=4)

    def feed(self, data: NDArray[np.uint8]) -> None:
        """Give a started blit its data, padded to whole double words by the caller."""
        words = data.reshape(-1).view(np.uint32)
        self.vcpu.store_many(WINDOW + 4 * (np.arange(len(words)) % 0x1000), words, size=4)

    def fill(self, x: int, y: int, width: int, height: int, color: int) -> None:
        self.start(
            GR30_PATTERN | GR30_COLOR_EXPAND,
            at(x, y),
            width,
            height,
            colors=(color, 0),
            extensions=GR33_SOLID_FILL,
        )

    def pattern(
        self, x: int, y: int, width: int, height: int, bits: bytes, color: int, rop: int = ROP_COPY
    ) -> None:
        """Draw the set bits of an 8 x 8 pattern, and leave what lies between."""
        mode = GR30_PATTERN | GR30_COLOR_EXPAND | GR30_TRANSPARENT | GR30_FROM_SYSTEM
        self.start(mode, at(x, y), width, height, colors=(color, 0), rop=rop)
        self.feed(np.frombuffer(bits, np.uint8))

    def copy(self, source: int, target: int, width: int, height: int) -> None:
        """Copy a rectangle within video memory, from the right end if need be."""
        if source < target < source + height * PITCH:
            last = (height - 1) * PITCH + width - 1
            self.start(GR30_BACKWARDS, target + last, width, height, src=source + last)
        else:
            self.start(0, target, width, height, src=source)


def at(x: int, y: int) -> int:
    """The address of a pixel in video memory."""
    return y * PITCH + x


def _place(vcpu: Vcpu) -> None:
    """Give the card its addresses and let it decode them."""
    for register, value in ((0x10, LFB), (0x14, MMIO), (0x04, 0x0003)):
        vcpu.out32(CONFIG_ADDRESS, CARD | register)
        vcpu.out32(CONFIG_DATA, value)


def _sequencer(vcpu: Vcpu, register: int, value: int) -> None:
    vcpu.out16(SEQUENCER, value << 8 | register)


def _set_mode_256(vcpu: Vcpu) -> None:
    """640 x 480 in 256 colours: mode 12h's timing, packed pixels, linear memory."""
    set_mode(vcpu, bytes(48))
    _sequencer(vcpu, SR_UNLOCK, 0x12)
    _sequencer(vcpu, SR_EXTENDED_MODE, SR7_EXTENDED)
    _sequencer(vcpu, SR_CONFIGURATION, SR17_REGISTERS_IN_MEMORY)
    vcpu.out16(CRTC, PITCH // 8 << 8 | 0x13)
    graphics(vcpu, GR_MODE, 0x40)
    vcpu.in8(STATUS_1)
    for index, value in ((0x10, 0x41), (0x20, 0)):
        vcpu.out8(ATTRIBUTE, index)
        if index < 0x20:
            vcpu.out8(ATTRIBUTE, value)
    vcpu.out8(DAC_WRITE_INDEX, 0)
    for component in _palette().reshape(-1).tolist():
        vcpu.out8(DAC_DATA, component)


def _palette() -> NDArray[np.uint8]:
    """256 colours of 6 bits per component."""
    colors = np.zeros((256, 3), np.uint8)
    stops = ([2, 3, 12], [7, 8, 28], [26, 13, 36], [50, 24, 28], [62, 44, 22])
    places = np.linspace(0, 63, len(stops))
    for component in range(3):
        colors[:64, component] = np.interp(
            np.arange(64), places, [stop[component] for stop in stops]
        )
    shade = np.linspace(30, 63, 32)
    colors[MOON : MOON + 32] = np.stack((shade, shade, shade * 0.88), axis=1)
    colors[WALL] = (5, 5, 12)
    colors[WALL_FAR] = (12, 9, 20)
    colors[WINDOW_LIT] = (63, 52, 22)
    colors[WINDOW_DIM] = (34, 24, 22)
    colors[STAR] = (58, 58, 63)
    colors[TITLE] = (63, 60, 50)
    colors[SHADOW] = (0, 0, 6)
    colors[WATER:] = colors[:128] * np.array((0.45, 0.55, 0.7)) + np.array((0, 2, 6))
    return colors


def _sky(vcpu: Vcpu) -> None:
    """Linear writes, eight pixels each: shades dithered into each other."""
    rows = np.arange(SHORE)
    shade = rows / (SHORE - 1) * 62.99
    threshold = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]) / 16
    dither = np.tile(threshold, (SHORE // 4 + 1, WIDTH // 4))[:SHORE]
    pixels = (shade[:, np.newaxis] + dither).astype(np.uint8) + SKY
    words = pixels.reshape(-1).view(np.uint64)
    vcpu.store_many(LFB + 8 * np.arange(len(words)), words, size=8)


def _stars(vcpu: Vcpu) -> None:
    """Extended write mode 4 in the window: a byte is eight pixels, clear bits stay as they are."""
    graphics(vcpu, GR_OFFSET_0, 0)
    graphics(vcpu, GR_EXTENSIONS, GRB_BY_8 | GRB_EXTENDED_WRITE_MODES)
    graphics(vcpu, GR_MODE, 0x44)
    graphics(vcpu, 1, STAR)
    random = generator(5446)
    rows = (SHORE * 0.75 * random.random(260) ** 1.5).astype(int)
    cells = np.unique(rows * (PITCH // 8) + random.integers(0, PITCH // 8, 260))
    vcpu.store_many(WINDOW + cells, 1 << random.integers(0, 8, len(cells)))
    graphics(vcpu, GR_MODE, 0x40)
    graphics(vcpu, GR_EXTENSIONS, 0)


def _moon(blitter: Blitter) -> None:
    """System to screen, with a transparent colour around the disc."""
    size = 96
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    inside = x * x + y * y <= 1
    depth = np.sqrt(np.clip(1 - x * x - y * y, 0, 1))
    light = np.clip(depth * 0.8 - x * 0.35 - y * 0.2 + 0.15, 0, 1)
    for at_x, at_y, radius in ((-0.3, -0.2, 0.28), (0.25, 0.3, 0.22), (0.1, -0.5, 0.14)):
        crater = (x - at_x) ** 2 + (y - at_y) ** 2 < radius**2
        light = np.where(crater, light * 0.82, light)
    pixels = np.where(inside, MOON + light * 31, SHADOW).astype(np.uint8)
    mode = GR30_FROM_SYSTEM | GR30_TRANSPARENT
    blitter.start(mode, at(70, 60), size, size, key=SHADOW)
    blitter.feed(pixels)


def _city(blitter: Blitter) -> None:
    """Fills and patterns for one block of houses; copies of it for the rest."""
    random = generator(1013)
    _houses(blitter, random, 16, WALL_FAR, WINDOW_DIM, (70, 170))
    _houses(blitter, random, 24, WALL, WINDOW_LIT, (30, 110))
    # A copy that shifts part of the skyline to the right, over itself.
    width = 150
    blitter.copy(at(40, SHORE - 60), at(100, SHORE - 60), width, 60)


def _houses(
    blitter: Blitter,
    random: np.random.Generator,
    count: int,
    wall: int,
    window: int,
    heights: tuple[int, int],
) -> None:
    for left in np.linspace(0, WIDTH - 40, count).astype(int).tolist():
        height = int(random.integers(*heights)) // 8 * 8
        width = int(random.integers(3, 8)) * 8
        width = min(width, WIDTH - left)
        blitter.fill(left, SHORE - height, width, height, wall)
        some = random.choice(np.array((0x66, 0x60, 0x06, 0x66), np.uint8), 2).repeat(4)
        lit = np.frombuffer(_WINDOWS, np.uint8) & some
        blitter.pattern(left, SHORE - height, width, height - 8, lit.tobytes(), window)


def _water(blitter: Blitter) -> None:
    """Copies line by line, upside down; then a raster operation turns the colours to water."""
    for line in range(HEIGHT - SHORE):
        source = SHORE - 1 - line * 7 // 4
        sway = (0, 1, 2, 1, 0, -1, -2, -1)[line // 2 % 8] + 2
        blitter.copy(at(sway, source), at(0, SHORE + line), WIDTH - 4, 1)
        blitter.copy(at(WIDTH - 8, source), at(WIDTH - 4, SHORE + line), 4, 1)
    blitter.start(
        GR30_PATTERN | GR30_COLOR_EXPAND,
        at(0, SHORE),
        WIDTH,
        HEIGHT - SHORE,
        colors=(WATER, 0),
        rop=ROP_OR,
        extensions=GR33_SOLID_FILL,
    )
    for line, pixels in ((372, 96), (404, 160), (440, 240)):
        blitter.pattern(100 - pixels // 3, line, pixels, 5, _RIPPLES, WATER + MOON + 10)


def _title(blitter: Blitter, text: str, x: int, y: int) -> None:
    """Colour expansion of letters, each dot four by four pixels, with a shadow."""
    rows = np.stack([np.frombuffer(bytes.fromhex(_LETTERS[c]), np.uint8) for c in text], axis=1)
    dots = np.unpackbits(rows, axis=1).repeat(4, axis=1).repeat(4, axis=0)
    width, height = dots.shape[1], dots.shape[0]
    mode = GR30_FROM_SYSTEM | GR30_COLOR_EXPAND | GR30_TRANSPARENT
    for shift, color in ((3, SHADOW), (0, TITLE)):
        blitter.start(mode, at(x + shift, y + shift), width, height, colors=(color, 0))
        blitter.feed(np.packbits(dots, axis=1))
    # The same letters again, small, from a monochrome copy in memory below the screen.
    packed = np.packbits(np.unpackbits(rows, axis=1), axis=1)
    blitter.vcpu.store_many(LFB + SCRATCH + np.arange(packed.size), packed.reshape(-1))
    blitter.start(
        GR30_COLOR_EXPAND | GR30_TRANSPARENT,
        at(WIDTH - 80, HEIGHT - 16),
        packed.shape[1] * 8,
        8,
        src=SCRATCH,
        src_pitch=packed.shape[1],
        colors=(TITLE, 0),
    )


def _cursor(vcpu: Vcpu) -> None:
    """The hardware cursor: an arrow, white with a dark edge, in the last pattern of memory."""
    shape = np.tri(20, 20, dtype=bool)
    shape[14:] = False
    shape[12:19, 5:8] = True
    arrow = np.zeros((32, 32), bool)
    arrow[1:21, 1:21] = shape
    edge = np.zeros_like(arrow)
    for dy, dx in _neighbours():
        edge |= np.roll(arrow, (dy, dx), axis=(0, 1))
    planes = np.concatenate((np.packbits(arrow), np.packbits(arrow | edge)))
    vcpu.store_many(LFB + VRAM_SIZE - 256 + np.arange(256), planes)
    x, y = CURSOR_AT
    _sequencer(vcpu, SR_CURSOR_ATTRIBUTES, SR12_HIDDEN_COLORS)
    for index, component in ((0, 6), (15, 63)):
        vcpu.out8(DAC_WRITE_INDEX, index)
        for _ in range(3):
            vcpu.out8(DAC_DATA, component)
    _sequencer(vcpu, SR_CURSOR_ATTRIBUTES, SR12_CURSOR_ON)
    _sequencer(vcpu, SR_CURSOR_PATTERN, 0x3F)
    # The low three bits of a position are part of the register's index.
    _sequencer(vcpu, SR_CURSOR_X | (x & 7) << 5, x >> 3)
    _sequencer(vcpu, SR_CURSOR_Y | (y & 7) << 5, y >> 3)


def _neighbours() -> Iterable[tuple[int, int]]:
    return ((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))
