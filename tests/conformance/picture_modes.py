"""Ways to write picture scripts: modes of the VGA, fonts, colours, patterns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from conformance_script import Lines

WINDOW = 0xA0000
_CR_PROTECT = 0x11
_GROUPS = ("sr", "gr", "ar", "cr")


@dataclass(frozen=True)
class Mode:
    """A mode: its size, and the registers in which it differs from a plain one."""

    columns: int
    lines: int
    pitch: int
    sr: Mapping[int, int]
    gr: Mapping[int, int]
    ar: Mapping[int, int]
    cr: Mapping[int, int] = field(default_factory=dict)

    def set(self, lines: Lines) -> None:
        """All registers and the standard colours; the screen shows afterwards."""
        lines.out(0x3C2, 0x67)
        for index, value in {0: 3, 2: 0x0F, **self.sr}.items():
            lines.indexed(0x3C4, index, value)
        for index, value in {0: 0, 1: 0, 2: 0, 3: 0, 4: 0, 7: 0x0F, 8: 0xFF, **self.gr}.items():
            lines.indexed(0x3CE, index, value)
        for index, value in {**self._timing(), **self.cr}.items():
            lines.indexed(0x3D4, index, value)
        for index in range(16):
            lines.attribute(index, self.ar.get(index, index))
        for index, value in {0x10: 0x01, 0x11: 0, 0x12: 0x0F, 0x13: 0, 0x14: 0, **self.ar}.items():
            if index >= 0x10:
                lines.attribute(index, value)
        colors(lines)
        show(lines)

    def but(
        self,
        *,
        columns: int | None = None,
        lines: int | None = None,
        pitch: int | None = None,
        **registers: Mapping[int, int],
    ) -> Mode:
        """This mode with another size, or with other values in registers (sr, gr, ar, cr)."""
        groups = {name: {**getattr(self, name), **registers.get(name, {})} for name in _GROUPS}
        return Mode(
            columns=columns or self.columns,
            lines=lines or self.lines,
            pitch=pitch or self.pitch,
            **groups,
        )

    def _timing(self) -> dict[int, int]:
        end = self.lines - 1
        return {
            _CR_PROTECT: 0,
            0x01: self.columns - 1,
            0x07: end >> 7 & 0x02 | end >> 3 & 0x40 | 0x10,
            0x08: 0,
            0x09: 0x40,
            0x0A: 0x20,
            0x0B: 0,
            0x0C: 0,
            0x0D: 0,
            0x0E: 0,
            0x0F: 0,
            0x12: end & 0xFF,
            0x13: self.pitch,
            0x14: 0,
            0x17: 0xE3,
            0x18: 0xFF,
        }


def show(lines: Lines) -> None:
    """Turn the screen on."""
    lines.in_(0x3DA)
    lines.out(0x3C0, 0x20)


def colors(lines: Lines) -> None:
    """A different colour for each entry of the DAC.

    Of each component only values that QEMU and the chip make the same 8 bits of: the two lowest
    of these are the two highest of the six on the chip, and twice the lowest of them in QEMU.
    """
    levels = (0x00, 0x04, 0x08, 0x0C, 0x33, 0x37, 0x3B, 0x3F)
    lines.out(0x3C8, 0)
    for index in range(256):
        lines.out(0x3C9, levels[index & 7])
        lines.out(0x3C9, levels[index >> 3 & 7])
        lines.out(0x3C9, levels[index >> 6 & 3] if index < 128 else levels[7 - (index >> 6 & 3)])


def open_plane(lines: Lines, plane: int) -> None:
    """Plain writes of one plane at 0xa0000, each address after the other."""
    lines.indexed(0x3C4, 2, 1 << plane)
    lines.indexed(0x3C4, 4, 0x06)
    for index, value in {1: 0, 3: 0, 5: 0, 6: 0x05, 8: 0xFF}.items():
        lines.indexed(0x3CE, index, value)


def fill_plane(lines: Lines, plane: int, data: bytes, at: int = 0) -> None:
    """Bytes of a plane, before the mode is set."""
    open_plane(lines, plane)
    lines.write(WINDOW + at, data)


def pattern(size: int, step: int, seed: int = 1) -> bytes:
    """Bytes without a short period."""
    return bytes(
        (seed + place * step + (place >> 5) * 7 + (place >> 8) * 31) & 0xFF for place in range(size)
    )


def glyphs(seed: int = 0, count: int = 256, height: int = 32) -> bytes:
    """A font in which each line of each glyph is different from its neighbours."""
    return bytes(
        (code * 37 + line * 73 + seed + (line & code)) & 0xFF
        for code in range(count)
        for line in range(height)
    )


def text(lines: Lines, cells: Iterable[tuple[int, int]], at: int = 0) -> None:
    """Characters and attributes into planes 0 and 1."""
    pairs = list(cells)
    fill_plane(lines, 0, bytes(code for code, _ in pairs), at)
    fill_plane(lines, 1, bytes(attribute for _, attribute in pairs), at)
