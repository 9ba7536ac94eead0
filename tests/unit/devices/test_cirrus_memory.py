"""Banks, the linear framebuffer, extended write modes, registers in memory; runs of writes."""

from __future__ import annotations

import numpy as np
import pytest
from cirrus_programs import (
    END_REGISTERS,
    EXPAND,
    FROM_SYSTEM,
    PATTERN,
    SOLID,
    TRANSPARENT,
    WINDOW_REGISTERS,
    Program,
    entries,
    get,
    new_chip,
    set_gr,
    set_sr,
)

from coalesced.devices.bus.address_space import AddressSpace
from coalesced.devices.cirrus.device import CirrusChip
from coalesced.devices.cirrus.registers import VRAM_SIZE
from coalesced.vmm.access import Accesses
from coalesced.vmm.counters import Counters

APERTURE = 0x1000000
Write = tuple[int, int, int]


def test_one_offset_in_units_of_4_and_16_kib() -> None:
    chip = new_chip(seed=1)
    set_gr(chip, 0x09, 5)
    for units, step in ((0x00, 4096), (0x20, 16384)):
        set_gr(chip, 0x0B, units)
        for offset in (0, 0x7FFF, 0x8000, 0xFFFF):
            assert chip.window.read(offset, 1) == chip.vram[5 * step + offset]
        assert chip.window.read(0x10000, 1) == 0xFF


def test_two_offsets() -> None:
    chip = new_chip(seed=1)
    set_gr(chip, 0x0B, 0x01)
    set_gr(chip, 0x09, 7)
    set_gr(chip, 0x0A, 9)
    assert chip.window.read(0x10, 1) == chip.vram[7 * 4096 + 0x10]
    assert chip.window.read(0x8010, 1) == chip.vram[9 * 4096 + 0x10]


def test_window_ends_with_memory() -> None:
    chip = new_chip()
    chip.vram[:] = 1
    set_gr(chip, 0x0B, 0x20)
    set_gr(chip, 0x09, 0xFF)
    assert chip.window.read(0x3FFE, 4) == 0xFFFF0101
    chip.window.write(0x3FFE, 4, 0x05040302)
    assert chip.vram[-2:].tolist() == [2, 3]
    assert chip.vram[0] == 1


def test_linear_framebuffer_and_what_lies_behind() -> None:
    chip = new_chip()
    chip.linear.write(VRAM_SIZE - 4, 8, 0x8877665544332211)
    assert chip.vram[-4:].tobytes() == b"\x11\x22\x33\x44"
    assert chip.linear.read(VRAM_SIZE - 4, 8) == 0x44332211
    assert chip.linear.read(APERTURE, 2) == 0xFFFF
    assert chip.linear.read(APERTURE + VRAM_SIZE, 2) == 0


@pytest.mark.parametrize("mode", [4, 5])
@pytest.mark.parametrize(("grb", "size"), [(0x06, 1), (0x14, 2)])
def test_a_byte_is_eight_pixels(mode: int, grb: int, size: int) -> None:
    chip = new_chip()
    chip.vram[:] = 0xEE
    for index, value in ((0x0B, grb), (0x05, mode), (0, 2), (0x10, 3), (1, 4), (0x11, 5)):
        set_gr(chip, index, value)
    chip.linear.write(3, 1, 0b10010000)
    foreground, background = [4, 5][:size], [2, 3][:size] if mode == 5 else [0xEE] * size
    expected = (foreground + background * 2) * 2 + background * 2
    assert chip.vram[24 * size : 32 * size].tolist() == expected


def test_registers_in_the_window_and_at_the_end() -> None:
    chip = new_chip()
    for sr17, region, base in (
        (0x04, chip.window, WINDOW_REGISTERS),
        (0x44, chip.linear, END_REGISTERS),
    ):
        region.write(base + 0x1A, 1, 0x11)
        assert get(chip, 0x3CE, 0x32) != 0x11, "SR17 is 0"
        set_sr(chip, 0x17, sr17)
        region.write(base + 0x1A, 1, sr17)
        assert get(chip, 0x3CE, 0x32) == sr17
        assert region.read(base + 0x1A, 1) == sr17
        set_sr(chip, 0x17, 0)


def test_what_a_dword_brings_beyond_a_blit_is_written() -> None:
    chip = new_chip()
    Program(FROM_SYSTEM | EXPAND, 8, 1, 0x100, foreground=1).run(chip)
    chip.linear.write(0x200, 4, 0x443322FF)
    assert chip.vram[0x100:0x108].tolist() == [1] * 8
    assert chip.vram[0x200:0x204].tolist() == [0, 0x22, 0x33, 0x44]


def test_data_aperture() -> None:
    chip = new_chip()
    Program(FROM_SYSTEM, 4, 1, 0x100).run(chip)
    chip.linear.write(APERTURE + VRAM_SIZE - 4, 8, 0x44332211)
    assert chip.vram[0x100:0x104].tobytes() == b"\x11\x22\x33\x44"


def twins(seed: int) -> tuple[CirrusChip, CirrusChip]:
    return new_chip(seed=seed), new_chip(seed=seed)


def run_both(pair: tuple[CirrusChip, CirrusChip], linear: bool, writes: list[Write]) -> None:
    """Queue writes on the first chip as a batch, and call the second for each."""
    space = AddressSpace("memory", 1 << 26, 0)
    space.map(pair[0].linear if linear else pair[0].window, 0)
    accesses = Accesses(space, AddressSpace("ports", 0x10000, 0xFF), Counters())
    run = entries(writes)
    accesses.write_arrays(run.addresses, run.sizes, run.values)
    single = pair[1].linear if linear else pair[1].window
    for write in writes:
        single.write(*write)
    assert not accesses.counters.failures
    assert pair[0].state() == pair[1].state()


def random_writes(random: np.random.Generator, linear: bool, count: int) -> list[Write]:
    places = [0, 0x7FF0, 0xFFF0, 0x10000, 0x18000]
    if linear:
        places = [0, 0x1234, VRAM_SIZE - 300, VRAM_SIZE - 8, APERTURE, APERTURE + VRAM_SIZE - 9]
    sizes = random.choice((1, 2, 4, 8, 3), random.integers(1, 3))
    writes: list[Write] = []
    while len(writes) < count:
        at = int(random.choice(places))
        for _ in range(int(random.integers(1, 40))):
            size = int(random.choice(sizes))
            value = int(random.integers(0, 1 << 62)) & (1 << (8 * size)) - 1
            writes.append((at + int(random.integers(0, 16)) * size, size, value))
    limit = 1 << 25 if linear else 1 << 17
    return [w for w in writes if w[0] + w[1] <= limit]


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_a_batch_leaves_what_single_writes_leave(seed: int, linear: bool) -> None:
    """Under random modes, with a blit that waits for data and registers among the addresses."""
    random = np.random.default_rng(seed)
    pair = twins(seed)
    for _ in range(3):
        settings = [
            (0x09, int(random.integers(0, 256))),
            (0x0A, int(random.integers(0, 256))),
            (0x0B, int(random.choice((0, 1, 2, 6, 0x14, 0x20, 0x21)))),
            (0x05, int(random.choice((0, 4, 5)))),
        ]
        sr17 = int(random.choice((0, 4, 0x44)))
        mode = int(random.choice((0, EXPAND, EXPAND | TRANSPARENT, TRANSPARENT, PATTERN, 1)))
        waiting = random.random() < 0.6
        p = Program(
            mode | FROM_SYSTEM | int(random.integers(0, 2)) << 4,
            int(random.integers(1, 90)),
            int(random.integers(1, 40)),
            0x8000,
            rop=int(random.choice((0x0D, 0x59))),
            foreground=0x1234,
            skip=int(random.choice((0, 0, 3))),
        )
        for chip in pair:
            for index, value in settings:
                set_gr(chip, index, value)
            set_sr(chip, 0x17, sr17)
            if waiting:
                p.run(chip)
        run_both(pair, linear, random_writes(random, linear, 400))


def test_blits_that_begin_and_end_within_a_batch() -> None:
    """Registers by queued writes at 0xb8000, data behind them, and plain writes behind those."""
    pair = twins(5)
    for chip in pair:
        set_sr(chip, 0x17, 0x04)
    writes: list[Write] = []
    for number in range(30):
        from_system = number % 3 == 0
        mode = FROM_SYSTEM if from_system else PATTERN | EXPAND
        for offset, value in (
            (0x04, number),
            (0x08, 15 | 3 << 16),
            (0x0C, 640 | 640 << 16),
            (0x10, 0x20000 + number * 40),
            (0x18, mode | 0x0D << 16 | SOLID << 24),
            (0x40, 0),
            (0x40, 2),
        ):
            writes.append((WINDOW_REGISTERS + offset, 4, value))
        writes += [(at * 4, 4, number * 0x1010101) for at in range(16 if from_system else 0)]
        writes += [(0x100 + at, 1, number) for at in range(20)]
    run_both(pair, False, writes)
    assert pair[0].vram[0x20000 + 28 * 40] == 28


def test_banks_outlive_the_extended_mode_until_the_next_register() -> None:
    """QEMU maps memory into the window and looks again only with certain registers."""
    chip = new_chip()
    set_gr(chip, 0x09, 2)
    set_sr(chip, 0x07, 0x00)
    chip.window.write(0x10, 1, 0x55)
    assert chip.vram[0x2010] == 0x55
    set_gr(chip, 0x05, 0)
    chip.window.write(0x20, 1, 0x55)
    assert chip.vram[0x2020] == 0
