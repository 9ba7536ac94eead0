"""Every kind of blit against loops over single bytes, and what QEMU refuses."""

from __future__ import annotations

import pytest
from cirrus_programs import (
    BACKWARDS,
    COPY,
    EXPAND,
    FROM_SYSTEM,
    INVERT,
    PATTERN,
    SOLID,
    TO_SYSTEM,
    TRANSPARENT,
    TRUTH,
    Program,
    copy_slowly,
    draw_slowly,
    new_chip,
    set_gr,
    status,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from coalesced.devices.cirrus.registers import VRAM_SIZE

PART = 0x4000


@pytest.mark.slow
@settings(max_examples=300)
@given(
    rop=st.sampled_from(sorted(TRUTH)),
    mode=st.sampled_from((0, BACKWARDS, TRANSPARENT, BACKWARDS | TRANSPARENT)),
    width=st.one_of(st.integers(1, 12), st.integers(1, 300)),
    height=st.integers(1, 6),
    pitches=st.tuples(st.integers(0, 40), st.integers(0, 40), st.booleans()),
    distance=st.one_of(st.integers(-9, 9), st.integers(-400, 400)),
    key=st.integers(0, 255),
)
def test_copies(
    rop: int,
    mode: int,
    width: int,
    height: int,
    pitches: tuple[int, int, bool],
    distance: int,
    key: int,
) -> None:
    """Source and target near each other, so that most of them overlap."""
    dst_pitch = width + pitches[0]
    src_pitch = dst_pitch if pitches[2] else width + pitches[1]
    dst = PART // 2
    p = Program(mode, width, height, dst, dst + distance, dst_pitch, src_pitch, rop, key=key)
    chip = new_chip(seed=width)
    expected = bytearray(chip.vram[:PART].tobytes())
    p.run(chip)
    copy_slowly(expected, p)
    assert chip.vram[:PART].tobytes() == expected
    assert status(chip) == 0


@pytest.mark.parametrize("rop", sorted(TRUTH))
@pytest.mark.parametrize("pixel", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("mode", "extensions"),
    [
        (PATTERN | EXPAND, SOLID),
        (PATTERN, 0),
        (PATTERN | EXPAND, 0),
        (PATTERN | EXPAND | TRANSPARENT, 0),
        (PATTERN | EXPAND | TRANSPARENT, INVERT),
        (EXPAND, 0),
        (EXPAND, INVERT),
        (EXPAND | TRANSPARENT, 0),
        (EXPAND | TRANSPARENT, INVERT),
    ],
)
@pytest.mark.parametrize("place", ["apart", "over its source"])
def test_drawing(rop: int, pixel: int, mode: int, extensions: int, place: str) -> None:
    chip = new_chip(seed=rop, sr7=0x09)  # 32 bits per pixel: patterns lie at multiples of 256
    p = Program(
        mode | pixel - 1 << 4,
        21 * pixel,
        11,
        0x800,
        0x3000 if place == "apart" else 0x900,
        dst_pitch=24 * pixel,
        rop=rop,
        extensions=extensions,
        foreground=0x12345678,
        background=0x9ABCDEF0,
    )
    expected = bytearray(chip.vram[:PART].tobytes())
    p.run(chip)
    draw_slowly(expected, p, pixel)
    assert chip.vram[:PART].tobytes() == expected


@pytest.mark.parametrize("pixel", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "mode", [0, PATTERN, PATTERN | EXPAND, EXPAND, EXPAND | TRANSPARENT, PATTERN | EXPAND | 8]
)
@pytest.mark.parametrize("size", [1, 4])
def test_data_of_the_system_is_as_good_as_memory(pixel: int, mode: int, size: int) -> None:
    width, height = 40 * pixel, 9
    fields = {
        "width": width,
        "height": height,
        "dst": 0x800,
        "dst_pitch": 512,
        "foreground": 0x12345678,
        "background": 0x9ABCDEF0,
        "rop": 0x59,
    }
    row = (40 + 7) // 8 if mode & EXPAND else (width + 3) & ~3
    count = row * height
    if mode & PATTERN:
        count = 8 if mode & EXPAND else 64 * pixel
        if pixel == 3 and not mode & EXPAND:
            pytest.skip("lines of 32 bytes do not fit into 192 of data")
    by_memory, by_system = new_chip(seed=1, sr7=0x09), new_chip(seed=1, sr7=0x09)
    data = by_memory.vram[0x3000 : 0x3000 + count].copy()
    Program(mode | pixel - 1 << 4, src=0x3000, src_pitch=row, **fields).run(by_memory)
    Program(mode | FROM_SYSTEM | pixel - 1 << 4, **fields).run(by_system)
    assert status(by_system) == 3
    padded = data.tobytes() + bytes(-count % size)
    for at in range(0, count, size):
        # The remainder of the last double word is an ordinary write, here of old contents.
        value = int.from_bytes(padded[at : at + size], "little")
        by_system.window.write(at if at + size <= count else 0xFFF0, size, value)
    assert status(by_system) == 0
    assert (by_memory.vram[:0x4000] == by_system.vram[:0x4000]).all()


def test_refused_blits_draw_nothing() -> None:
    """Zero pitches, ends outside memory, impossible kinds, each as QEMU leaves GR31."""
    last = VRAM_SIZE - 1
    for p, left in (
        (Program(0, 8, 2, 0x100, 0x200, dst_pitch=0), 0),
        (Program(0, 8, 2, 0x100, 0x200, src_pitch=0), 0),
        (Program(0, 8, 2, last - 640, 0x200), 0),
        (Program(0, 8, 2, 0x100, last - 640), 0),
        (Program(BACKWARDS, 8, 2, 640 + 6, 0x2000), 0),
        (Program(BACKWARDS, 8, 2, 0x2000, 640 + 6), 0),
        (Program(TRANSPARENT | 0x20, 9, 2, 0x100, 0x200), 0),
        (Program(FROM_SYSTEM | TO_SYSTEM, 8, 2, 0x100), 0),
        (Program(TO_SYSTEM, 8, 2, 0x100), 0),
        (Program(FROM_SYSTEM, 8, 2, last - 640), 0),
        (Program(0, 641, 2, 0x100, 0x2000), 0),
        (Program(PATTERN | EXPAND, 8, 2, last, extensions=SOLID), 3),
    ):
        chip = new_chip(seed=3)
        before = chip.vram.copy()
        p.run(chip)
        assert (chip.vram == before).all(), p
        assert status(chip) == left, p
        assert not chip.blitter.receiving, p


def test_reset_bit_ends_a_blit_on_its_falling_edge() -> None:
    chip = new_chip()
    Program(FROM_SYSTEM, 8, 2, 0x100).run(chip)
    assert (status(chip), chip.blitter.wanted) == (3, 16)
    set_gr(chip, 0x31, 0x04)
    assert chip.blitter.receiving
    set_gr(chip, 0x31, 0x00)
    assert (status(chip), chip.blitter.wanted) == (0, 0)


def test_autostart() -> None:
    chip = new_chip(seed=1)
    Program(0, 8, 1, 0x100, 0x200).load(chip)
    set_gr(chip, 0x31, 0x80)
    set_gr(chip, 0x2A, 0)
    assert (chip.vram[0x100:0x108] == chip.vram[0x200:0x208]).all()
    assert status(chip) == 0x80


def test_planes_on_the_screen_prevent_plain_copies_only() -> None:
    for rop, happens in ((COPY, False), (0xD0, True)):
        chip = new_chip(seed=1, sr7=0)
        before = chip.vram.copy()
        Program(0, 8, 1, 0x100, 0x200, rop=rop).run(chip)
        assert (chip.vram != before).any() == happens
