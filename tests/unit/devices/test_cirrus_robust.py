"""Whatever a guest writes, the chip neither fails nor hangs nor leaves its memory."""

from __future__ import annotations

import time

import numpy as np
import pytest
from cirrus_programs import (
    BACKWARDS,
    EXPAND,
    FROM_SYSTEM,
    PATTERN,
    TRANSPARENT,
    WINDOW_REGISTERS,
    Program,
    entries,
    new_chip,
    set_gr,
    set_sr,
    status,
)

from coalesced.devices.bus.region import Region
from coalesced.devices.bus.write_run import WriteRun
from coalesced.devices.cirrus.device import CirrusChip
from coalesced.devices.cirrus.registers import VRAM_SIZE


def test_cve_2014_8106_regions_beyond_memory() -> None:
    """Width and pitch that pass a check of the start alone reached behind video memory."""
    for p in (
        Program(0, 8192, 2048, VRAM_SIZE - 8192, 0, 8191, 8191),
        Program(0, 8192, 2, 0, VRAM_SIZE - 8192, 8191, 8191),
        Program(PATTERN | EXPAND, 8192, 8192, VRAM_SIZE - 1, 0, 8191, 8191),
        Program(0, 0x2000, 0x2000, 0x3FFFFF, 0x3FFFFF, 0x1FFF, 0x1FFF),
    ):
        chip = new_chip(seed=1)
        before = chip.vram.copy()
        p.run(chip)
        assert (chip.vram == before).all()
        assert status(chip) == 0


def test_cve_2016_9921_no_depth_and_no_pitch() -> None:
    """A copy divided by the screen's depth and by the source's pitch, both of them 0."""
    for sr7 in (0x00, 0x01):
        for src_pitch, dst_pitch in ((0, 640), (640, 0), (0, 0)):
            chip = new_chip(seed=1, sr7=sr7)
            before = chip.vram.copy()
            Program(0, 16, 4, 0x100, 0x8000, dst_pitch, src_pitch).run(chip)
            assert (chip.vram == before).all()
            assert status(chip) == 0


@pytest.mark.parametrize("mode", [BACKWARDS, BACKWARDS | TRANSPARENT, BACKWARDS | 0x18])
def test_cve_2017_2615_backwards_below_memory(mode: int) -> None:
    """A copy that runs down past address 0, by its rows or by its width."""
    for dst, src in ((640 * 9 + 14, 0x8000), (0x8000, 640 * 9 + 14), (0, 0x8000), (14, 14)):
        chip = new_chip(seed=1)
        before = chip.vram.copy()
        Program(mode, 16, 10, dst, src).run(chip)
        assert (chip.vram == before).all()
    chip = new_chip(seed=1)
    Program(BACKWARDS, 16, 10, 640 * 9 + 15, 0x8000).run(chip)
    assert chip.vram[0] == chip.vram[0x8000 - 640 * 9 - 15], "one byte higher it just fits"


@pytest.mark.parametrize("mode", [0, EXPAND, PATTERN, PATTERN | EXPAND, TRANSPARENT, BACKWARDS])
def test_cve_2017_2620_data_for_places_beyond_memory(mode: int) -> None:
    """A blit from the system whose destination was not checked before data came."""
    chip = new_chip(seed=1)
    before = chip.vram.copy()
    dst = 14 if mode & BACKWARDS else VRAM_SIZE - 15
    Program(mode | FROM_SYSTEM, 16, 8, dst).run(chip)
    assert not chip.blitter.receiving
    assert status(chip) == 0
    assert (chip.vram == before).all()


def random_access(random: np.random.Generator, chip: CirrusChip) -> None:
    """One access of any kind, most of them to what may start or feed a blit."""
    size = int(random.integers(1, 9))
    value = int(random.integers(0, 1 << 63)) >> int(random.integers(0, 64))
    match int(random.integers(0, 12)):
        case 0 | 1 | 2 | 3:
            index = int(random.choice((*range(0x20, 0x36), 5, 9, 10, 11, 0x31, 0x31)))
            set_gr(chip, index, value & 0xFF if index != 0x31 else int(random.choice((0, 2, 0x82))))
            return
        case 4:
            set_sr(chip, int(random.choice((7, 7, 0x17, 2, 4, 0x12))), value & 0xFF)
            return
        case 5:
            region, offset = chip.ports, int(random.integers(0, 0x30 - size + 1))
        case 6:
            region, offset = chip.mmio, int(random.integers(0, 0x180))
        case 7:
            region, offset = chip.linear, int(random.integers(0, (1 << 25) - 8))
        case 8:
            region, offset = chip.linear, VRAM_SIZE - 260 + int(random.integers(0, 256))
        case 9:
            region, offset = chip.window, 0x18000 + int(random.integers(0, 0x60))
        case 10:
            random_batch(random, chip.linear if value & 1 else chip.window)
            return
        case _:
            region, offset = chip.window, int(random.integers(0, 0x20000 - 8))
    if value & 1:
        region.write(offset, size, value & (1 << (8 * size)) - 1)
    else:
        assert 0 <= region.read(offset, size) < 1 << (8 * size)


def random_batch(random: np.random.Generator, region: Region) -> None:
    start = int(random.integers(0, 0x18000))
    size = int(random.choice((1, 4, 8)))
    values = random.integers(0, 256, 60).tolist()
    assert region.take_run is not None
    taken = region.take_run(entries([(start + 4 * i, size, v) for i, v in enumerate(values)]))
    assert 0 <= taken <= 60


def storm(seed: int, count: int) -> float:
    """Make `count` random accesses; the longest CPU time of one, in seconds."""
    random = np.random.default_rng(seed)
    chip = new_chip(seed=seed)
    longest = 0.0
    for number in range(count):
        started = time.process_time()
        try:
            random_access(random, chip)
        except Exception as error:
            raise AssertionError(f"seed {seed}, access {number}") from error
        longest = max(longest, time.process_time() - started)
        if number % 1000 == 999:
            chip.render()
            chip.text()
    assert len(chip.vram) == VRAM_SIZE
    return longest


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_storm_of_accesses(seed: int) -> None:
    assert storm(seed, 5000) < 10


@pytest.mark.heavy
def test_long_storm_of_accesses() -> None:
    for seed in range(100, 110):
        assert storm(seed, 20_000) < 10


def test_a_run_of_starts_ends_behind_a_large_blit() -> None:
    """A blit may take 0.1 s, so the drain of a full ring serves other work in between."""
    chip = new_chip()
    set_sr(chip, 0x17, 0x04)
    Program(PATTERN | EXPAND, 8192, 1024, 0, 0x3000, dst_pitch=1).load(chip)
    blits = 20
    offsets = np.full(blits, WINDOW_REGISTERS + 0x40, np.uint64)
    sizes, values = np.ones(blits, np.uint32), np.full(blits, 2, np.uint64)
    assert chip.window.take_run is not None
    assert chip.window.take_run(WriteRun.of(offsets, sizes, values)) == 1


def test_a_run_of_starts_of_small_blits_is_taken_as_one() -> None:
    chip = new_chip()
    set_sr(chip, 0x17, 0x04)
    Program(0, 64, 4, 0, 0x1000, 64, 64).load(chip)
    blits = 20
    offsets = np.full(blits, WINDOW_REGISTERS + 0x40, np.uint64)
    sizes, values = np.ones(blits, np.uint32), np.full(blits, 2, np.uint64)
    assert chip.window.take_run is not None
    assert chip.window.take_run(WriteRun.of(offsets, sizes, values)) == blits
