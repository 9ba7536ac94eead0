"""Scripts that show what the VGA's own modes look like."""

from __future__ import annotations

from dataclasses import replace

from conformance_script import Lines, Script
from picture_modes import Mode, fill_plane, glyphs, pattern, text

DEVICES = ("VGA,addr=02.0",)

TEXT = Mode(
    columns=80,
    lines=96,
    pitch=40,
    sr={1: 0x00, 3: 0x00, 4: 0x02},
    gr={5: 0x10, 6: 0x0E},
    ar={0x10: 0x04, 0x13: 0x08},
    cr={0x09: 0x4F, 0x14: 0x1F, 0x17: 0xA3},
)
PLANAR = Mode(
    columns=40,
    lines=60,
    pitch=20,
    sr={1: 0x01, 3: 0x00, 4: 0x06},
    gr={5: 0x00, 6: 0x05},
    ar={0x10: 0x01},
)
CHAIN_4 = Mode(
    columns=40,
    lines=100,
    pitch=20,
    sr={1: 0x01, 4: 0x0E},
    gr={5: 0x40, 6: 0x05},
    ar={0x10: 0x41},
    cr={0x09: 0x41, 0x14: 0x40, 0x17: 0xA3},
)
MODE_X = replace(CHAIN_4, sr={1: 0x01, 4: 0x06}, cr={0x09: 0x41, 0x14: 0x00, 0x17: 0xE3})


def fill(lines: Lines) -> None:
    """Different patterns in all planes."""
    for plane, step in enumerate((1, 3, 11, 29)):
        fill_plane(lines, plane, pattern(0x2000, step, plane))


def _planar(lines: Lines) -> None:
    fill(lines)
    PLANAR.set(lines)


def _chain_4(lines: Lines) -> None:
    fill(lines)
    CHAIN_4.set(lines)


def _cells(count: int) -> list[tuple[int, int]]:
    """Many characters and attributes; not 0xb0 to 0xbf, whose ninth dot QEMU draws otherwise."""
    codes = [place * 7 & 0xFF for place in range(count)]
    return [
        (code & 0x7F if code >> 4 == 0xB else code, place * 3 & 0x7F)
        for place, code in enumerate(codes)
    ]


def _text(lines: Lines) -> None:
    fill_plane(lines, 2, glyphs())
    text(lines, _cells(480))
    TEXT.set(lines)


SCRIPTS: tuple[Script, ...] = (
    Script("vga-planar", DEVICES, _planar),
    Script("vga-chain-4", DEVICES, _chain_4),
    Script("vga-text", DEVICES, _text),
)
