"""The blitter's inner loops against loops over single units, at the ends of memory, too."""

from __future__ import annotations

import random
import time
from typing import Any

import numpy as np
import pytest
from cirrus_programs import (
    BACKWARDS,
    EXPAND,
    PATTERN,
    TRANSPARENT,
    WINDOW_REGISTERS,
    Program,
    get,
    new_chip,
    set_sr,
)

from coalesced.devices.cirrus import engine
from coalesced.devices.cirrus.drawing import BAND
from coalesced.devices.cirrus.rops import TRUTH

SIZE = 256


def combined(rop: int, source: int, target: int, bits: int) -> int:
    """Look each bit up in the truth table."""
    result = 0
    for bit in range(bits):
        result |= (rop >> (2 * (source >> bit & 1) + (target >> bit & 1)) & 1) << bit
    return result


def copied(memory: bytes, shape: tuple[int, ...], unit: int, rop: int, key: int) -> bytes:
    """Copy backwards if the unit is negative."""
    width, height, dst, dst_stride, src, src_stride = shape
    result, size, step = bytearray(memory), abs(unit), unit // abs(unit)
    for row in range(height):
        to, at = dst + step * row * dst_stride, src + step * row * src_stride
        if step < 0:
            to, at = to - (size - 1), at - (size - 1)
        to, at = to // size * size, at // size * size
        for _ in range(width):
            places = [(to + byte) % SIZE for byte in range(size)]
            old = int.from_bytes(bytes(result[place] for place in places), "little")
            new = int.from_bytes(
                bytes(result[(at + byte) % SIZE] for byte in range(size)), "little"
            )
            value = combined(rop, new, old, 8 * size)
            if value != key:
                for place, byte in zip(places, value.to_bytes(size, "little"), strict=True):
                    result[place] = byte
            to, at = to + unit, at + unit
    return bytes(result)


@pytest.mark.parametrize("unit", [1, 2, -1, -2])
@pytest.mark.parametrize("lag", [*range(-3, 18), 40])
def test_copies_wrap_and_repeat(unit: int, lag: int) -> None:
    rng = random.Random(f"{unit} {lag}")
    for _ in range(25):
        memory = np.frombuffer(bytes(rng.choices(range(rng.choice((2, 256))), k=SIZE)), np.uint8)
        dst = rng.randrange(SIZE)
        stride = rng.randrange(60)
        shape = (rng.randrange(1, 90), rng.randrange(1, 4), dst, stride)
        origin = (dst - lag if unit > 0 else dst + lag, rng.choice((stride, 7)))
        rop, key = (
            rng.choice(sorted(TRUTH.values())),
            rng.choice((-1, 0, 1, 1 if abs(unit) == 1 else 0x100)),
        )
        expected = copied(memory.tobytes(), (*shape, *origin), unit, rop, key)
        ours = memory.copy()
        engine.copy(ours, ours, abs(unit), *shape, *origin, rop, key, unit < 0)
        assert ours.tobytes() == expected, (shape, origin, rop, key)


@pytest.mark.parametrize("pixel", [1, 2, 3, 4])
@pytest.mark.parametrize("transparent", [False, True])
def test_bits_at_the_end_of_memory_go_on_at_its_start(pixel: int, transparent: bool) -> None:
    for dst, shift, count in ((SIZE - 13, 0, 21), (SIZE - 4, 3, 17), (0, 8, 9)):
        bits = bytes((0b1011_0010, 0b0110_1101, 0b1110_0001, 0b0101_0011))
        memory = np.zeros(SIZE, np.uint8)
        colors = 0x44332211, 0x88776655
        shape = pixel, count, 1, dst, 0
        engine.expand(memory, bits, *shape, 0, 4, shift, TRUTH[0x0D], *colors, transparent, False)
        start = dst - dst % (pixel if pixel != 3 else 1)
        for number in range(count):
            at = shift + number
            one = bits[at // 8] >> (7 - at % 8) & 1
            color = colors[0] if one else 0 if transparent else colors[1]
            places = (start + number * pixel + np.arange(pixel)) % SIZE
            assert memory[places].tobytes() == color.to_bytes(4, "little")[:pixel]


def test_a_pattern_that_is_painted_over_goes_on_with_what_was_painted() -> None:
    """The first two pixels lie where the third and the fourth take theirs from, inverted."""
    memory = np.arange(SIZE, dtype=np.uint8)
    expected = bytearray(memory.tobytes())
    for column in range(40):
        expected[100 + column] = ~expected[102 + column % 8] & 0xFF
    shape = 1, 40, 1, 100, 0
    rop = TRUTH[0xD0]
    engine.tile_pixels(memory, memory, *shape, 102, 0, 0, rop, 0, 0, False, False)
    assert memory.tobytes() == expected


def test_arguments_that_no_blit_has_are_refused() -> None:
    memory, odd = np.zeros(64, np.uint8), np.zeros(63, np.uint8)
    for unit, width, rows, target, source in (
        (3, 1, 1, memory, memory),
        (1, 1 << 17, 1, memory, memory),
        (1, 1, -1, memory, memory),
        (1, 1, 1, odd, memory),
        (1, 1, 1, memory, odd),
    ):
        with pytest.raises(ValueError, match="expected"):
            engine.copy(target, source, unit, width, rows, 0, 0, 0, 0, 12, -1, False)
    colors = 12, 0, 0, False, False
    for pixel, size, first in ((0, 1, 0), (5, 1, 0), (1, -1, 0), (1, 1, 9), (1, 1, -1)):
        with pytest.raises(ValueError, match="expected"):
            engine.expand(memory, memory, pixel, 1, 1, 0, 0, 0, size, first, *colors)


SLOWEST = (
    Program(BACKWARDS | TRANSPARENT, 8192, 8192, 2088056, 2088057, 2, 2, 0x6D),
    Program(BACKWARDS | TRANSPARENT, 8192, 8166, 465951, 465953, 1, 1, 0xDA),
    Program(BACKWARDS | TRANSPARENT | 0x10, 8192, 8192, 1291543, 1291550, 8, 8, 0x59),
    Program(BACKWARDS, 8191, 8192, 155809, 155816, 1, 1, 0x0B),
    Program(PATTERN, 8192, 8192, 2702985, 2702992, 3, 2, 0x6D),
    Program(PATTERN | EXPAND | TRANSPARENT, 8192, 8192, 0x100000, 0x101000, 1, 1, 0x59),
    Program(EXPAND, 8192, 8192, 0x100000, 0x101000, 1, 1, 0x59),
)


@pytest.mark.parametrize("p", SLOWEST, ids=range(len(SLOWEST)))
def test_the_slowest_blits_take_no_second(p: Program) -> None:
    """64 million bytes, each built on others; processor time, as other programs run here, too."""
    chip = new_chip(seed=1)
    started = time.process_time()
    p.run(chip)
    assert time.process_time() - started < 1


def test_a_long_blit_goes_in_bands_so_that_signals_are_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows: list[int] = []
    expand = engine.expand

    def seen(*arguments: Any) -> None:
        rows.append(arguments[4])
        expand(*arguments)

    monkeypatch.setattr(engine, "expand", seen)
    SLOWEST[-1].run(new_chip(seed=1))
    assert sum(rows) == 8192
    assert max(rows) * 8192 <= BAND


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_registers_in_memory_take_any_size_of_write(size: int) -> None:
    chip = new_chip()
    set_sr(chip, 0x17, 0x04)
    value = int.from_bytes(bytes(range(0x91, 0x99)), "little") & (1 << 8 * size) - 1
    by_offset = {0x08: 0x20, 0x09: 0x21, 0x0A: 0x22, 0x0B: 0x23, 0x14: 0x2C, 0x16: 0x2E, 0x1A: 0x32}
    for region, base in ((chip.window, WINDOW_REGISTERS), (chip.mmio, 0x100)):
        for start in (0x08, 0x14, 0x1A):
            region.write(base + start, 8, 0)
            region.write(base + start, size, value)
            for offset, index in by_offset.items():
                if start <= offset < start + size:
                    kept = {0x21: 0x1F, 0x23: 0x1F, 0x2E: 0x3F}.get(index, 0xFF)
                    assert get(chip, 0x3CE, index) == 0x91 + offset - start & kept
