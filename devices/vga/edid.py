"""The EDID that QEMU 7.2's VGA shows: a monitor of 1280 by 800 at 100 dpi, put together by field.

Layout: VESA E-EDID 1.4 (base block of 128 bytes), CTA-861 (extension of 128 bytes).
"""

from __future__ import annotations

from typing import Final

BLOCK_SIZE: Final = 128
DESCRIPTOR_SIZE: Final = 18

WIDTH: Final = 1280
HEIGHT: Final = 800
REFRESH: Final = 75
DOTS_PER_INCH: Final = 100

TAG_NAME: Final = 0xFC
TAG_RANGE_LIMITS: Final = 0xFD
TAG_ESTABLISHED_TIMINGS_3: Final = 0xF7
TAG_DUMMY: Final = 0x10

SRGB: Final = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), (0.3127, 0.3290))
"""CIE x, y of red, green, blue and white."""

ESTABLISHED: Final = bytes((0x21, 0x08, 0x00))
"""640x480, 800x600 and 1024x768 at 60 Hz."""

ESTABLISHED_3: Final = bytes((0x00, 0x40, 0x82, 0x00, 0x28, 0x20))
"""1280x768, 1360x768, 1400x1050, 1792x1344, 1856x1392 and 1920x1440 at 60 Hz."""

STANDARD: Final = (
    (2048, 1152),
    (1920, 1080),
    (1920, 1200),
    (1600, 1200),
    (1680, 1050),
    (1440, 900),
    (1280, 1024),
    (1280, 960),
)
"""Modes at 60 Hz, in the order of the block."""

ASPECT_RATIOS: Final = {(16, 10): 0, (4, 3): 1, (5, 4): 2, (16, 9): 3}

VIDEO_CODES: Final = (125, 101, 96, 89, 31, 97)
"""CTA-861: 5120x2160, 4096x2160, 3840x2160, 2560x1080, 1920x1080 at 50 Hz, 3840x2160 at 60 Hz."""


def edid() -> bytes:
    """The base block and its extension, 256 bytes."""
    base = (
        bytes.fromhex("00 ff ff ff ff ff ff 00")
        + _manufacturer("RHT")
        + (0x1234).to_bytes(2, "little")
        + bytes(4)  # no serial number
        + bytes((42, 2014 - 1990, 1, 4))  # week and year of manufacture, EDID 1.4
        + _basic_parameters()
        + _chromaticity()
        + ESTABLISHED
        + b"".join(_standard_timing(*mode) for mode in STANDARD)
        + _detailed_timing()
        + _descriptor(TAG_ESTABLISHED_TIMINGS_3, b"\x0a" + ESTABLISHED_3)
        # 50 to 125 Hz, 30 to 160 kHz, up to 2550 MHz, nothing but these limits.
        + _descriptor(TAG_RANGE_LIMITS, bytes((50, 125, 30, 160, 255, 0x01)) + _text("", 7))
        + _descriptor(TAG_NAME, _text("QEMU Monitor", 13))
        + bytes((1,))  # one extension
    )
    return _with_checksum(base) + _with_checksum(_cta_extension())


def _with_checksum(block: bytes) -> bytes:
    """Append the byte that makes the sum of the block 0."""
    return block + bytes((-sum(block) & 0xFF,))


def _manufacturer(letters: str) -> bytes:
    number = 0
    for letter in letters:
        number = number << 5 | ord(letter) - ord("A") + 1
    return number.to_bytes(2, "big")


def _millimetres(dots: int) -> int:
    return dots * 254 // (DOTS_PER_INCH * 10)


def _basic_parameters() -> bytes:
    digital, bits_8, displayport = 0x80, 2 << 4, 5
    srgb, preferred_is_native = 0x04, 0x02
    return bytes(
        (
            digital | bits_8 | displayport,
            _millimetres(WIDTH) // 10,
            _millimetres(HEIGHT) // 10,
            220 - 100,  # gamma 2.2
            srgb | preferred_is_native,
        )
    )


def _chromaticity() -> bytes:
    """Ten bits each: the low two of all first, then the high eight one by one."""
    numbers = [round(value * 1024) for point in SRGB for value in point]
    low = 0
    for number in numbers:
        low = low << 2 | number & 3
    return low.to_bytes(2, "big") + bytes(number >> 2 for number in numbers)


def _standard_timing(width: int, height: int) -> bytes:
    ratio = next(code for (x, y), code in ASPECT_RATIOS.items() if width * y == height * x)
    return bytes((width // 8 - 31, ratio << 6))


def _detailed_timing() -> bytes:
    """Blanking 35 % of a line and 3.5 % of a frame, most of the line's in front of its sync."""
    h_blank, h_front, h_sync = WIDTH * 35 // 100, WIDTH * 25 // 100, WIDTH * 3 // 100
    v_blank, v_front, v_sync = HEIGHT * 35 // 1000, HEIGHT * 5 // 1000, HEIGHT * 5 // 1000
    clock = REFRESH * (WIDTH + h_blank) * (HEIGHT + v_blank) // 10_000  # units of 10 kHz
    width_mm, height_mm = _millimetres(WIDTH), _millimetres(HEIGHT)
    digital_separate_sync = 0x18
    return clock.to_bytes(2, "little") + bytes(
        (
            WIDTH & 0xFF,
            h_blank & 0xFF,
            WIDTH >> 8 << 4 | h_blank >> 8,
            HEIGHT & 0xFF,
            v_blank & 0xFF,
            HEIGHT >> 8 << 4 | v_blank >> 8,
            h_front & 0xFF,
            h_sync & 0xFF,
            (v_front & 0x0F) << 4 | v_sync & 0x0F,
            h_front >> 8 << 6 | h_sync >> 8 << 4 | v_front >> 4 << 2 | v_sync >> 4,
            width_mm & 0xFF,
            height_mm & 0xFF,
            width_mm >> 8 << 4 | height_mm >> 8,
            0,  # no border
            0,
            digital_separate_sync,
        )
    )


def _descriptor(tag: int, data: bytes) -> bytes:
    return (bytes((0, 0, 0, tag, 0)) + data).ljust(DESCRIPTOR_SIZE, b"\0")


def _text(text: str, size: int) -> bytes:
    return (text + "\n").encode("ascii").ljust(size, b" ")


def _cta_extension() -> bytes:
    """Revision 3: a block of video codes, then unused descriptors."""
    video_block = 2 << 5 | len(VIDEO_CODES)
    blocks = bytes((video_block, *VIDEO_CODES))
    header = bytes((0x02, 0x03, 4 + len(blocks), 0x00))
    extension = header + blocks
    while len(extension) + DESCRIPTOR_SIZE < BLOCK_SIZE:
        extension += _descriptor(TAG_DUMMY, b"")
    return extension.ljust(BLOCK_SIZE - 1, b"\0")
