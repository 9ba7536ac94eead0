"""Random scripts about the chips behind a PC's ISA bridge. The clock stands still."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from struct import pack

from conformance_script import Lines, Script, seeded

LENGTH = 1500
MEMORY = 16 << 20
FW_CFG_KEYS = (0, 0, 1, 2, 3, 5, 0x0F, 0x8002, 0x4000, 0x4003, 0x31, 0x60, 0x7FFF, 0xFFFF)
CONTROLLER = (
    0x20,
    0x20,
    0x60,
    0xA7,
    0xA8,
    0xA9,
    0xAA,
    0xAB,
    0xAD,
    0xAE,
    0xC0,
    0xD0,
    0xD1,
    0xD2,
    0xD3,
    0xDD,
    0xDF,
)
KEYBOARD = (0x05, 0xF2, 0xEE, 0xF4, 0xF0, 0xED, 0xF3, 0xFC, 0xF5, 0xF6, 0xFF, 0xFA, 1, 2, 3)
MOUSE = (*range(0xE6, 0xED), 0xEE, 0xF0, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xFF, 0xE9, 0xEB, 0xF2)


@dataclass(frozen=True)
class Chip:
    """A chip, and how so many random commands about it are written."""

    name: str
    devices: tuple[str, ...]
    write: Callable[[Lines, Random, int], None]

    def script(self, seed: str, length: int) -> Script:
        """A script of at least `length` commands, the same for the same seed."""
        return Script(
            self.name, self.devices, lambda lines: self.write(lines, seeded(seed), length)
        )


def _initialise_pic(lines: Lines, rng: Random, port: int) -> None:
    lines.out(port, 0x10 | rng.randrange(16))
    for _ in range(rng.randrange(5)):
        lines.out(
            port + 1, rng.choice((rng.randrange(256), rng.randrange(4) | rng.choice((0, 16))))
        )


def _pic(lines: Lines, rng: Random, length: int) -> None:
    """Commands of both controllers, while the timer's output rises and falls as modes change."""
    lines.reset()
    while len(lines) < length:
        port, do = rng.choice((0x20, 0xA0)), rng.randrange(20)
        if do < 6:
            lines.in_(port + rng.randrange(2))
        elif do < 8:
            lines.in_(rng.choice((0x4D0, 0x4D1)))
        elif do < 9:
            lines.in_(port, 2)
        elif do < 13:
            lines.out(0x43, rng.choice((0x10, 0x16)))
            lines.out(0x40, 100)
        elif do < 14:
            lines.out(rng.choice((0x4D0, 0x4D1)), rng.randrange(256))
        elif do < 15:
            lines.out(port + 1, rng.choice((0, 0, 0xFF, rng.randrange(256))))
        elif do < 18:
            lines.out(port, rng.choice((0x20, 0x0A, 0x0B, 0x0C, 0x68, rng.randrange(256) & ~0x10)))
        elif rng.randrange(3) == 0:
            _initialise_pic(lines, rng, port)
        elif rng.randrange(20) == 0:
            lines.reset()


def _pit(lines: Lines, rng: Random, length: int) -> None:
    """Counters that stand: control words, latches, halves of counts, the speaker's port."""
    lines.reset()
    while len(lines) < length:
        port, do = 0x40 + rng.choice((0, 0, 1, 2)), rng.randrange(20)
        if do < 8:
            lines.in_(port)
        elif do < 9:
            lines.in_(rng.choice((0x40, 0x41, 0x42)), 2)
        elif do < 11:
            lines.in_(rng.choice((0x61, 0x61, 0x43, 0x20)))
        elif do < 14:
            lines.out(port, rng.choice((0, 1, 2, 3, 255, rng.randrange(256))))
        elif do < 17:
            lines.out(0x43, rng.randrange(256))
        elif do < 18:
            lines.out(0x61, rng.randrange(4))
        elif do < 19:
            lines.out(0x43, 0xC0 | rng.randrange(64))
        elif rng.randrange(30) == 0:
            lines.reset()


def _dma_request(lines: Lines, rng: Random) -> None:
    """One of fw_cfg, in RAM or in none, and what it has left."""
    at = rng.choice((0x1000, 0x2000, 0xFF0000, 0x5000000))
    to = rng.choice((0x3000, 0x3004, 0xFFFFF8, 0x4000000, 0x10000))
    control = rng.choice((2, 2, 4, 8, 10, 10, 12, 16, 24, rng.randrange(32)))
    request = (control | rng.choice(FW_CFG_KEYS) << 16, rng.choice((0, 1, 4, 8, 16, 40)), to)
    if at < MEMORY:
        lines.write(at, pack(">IIQ", *request))
    if rng.randrange(3) == 0:
        lines.out(0x514, rng.choice((0, 0, 0x0100_0000)), 4)
    lines.out(0x518, int.from_bytes(at.to_bytes(4, "big"), "little"), 4)
    if at < MEMORY:
        lines.read(at, 16)
    lines.read(to - 8 if to < MEMORY else 0x3000, 16)


def _fw_cfg(lines: Lines, rng: Random, length: int) -> None:
    """Keys that a PC has with any devices, and such as it has not; reads and DMA."""
    lines.reset()
    while len(lines) < length:
        do = rng.randrange(20)
        if do < 9:
            lines.in_(rng.choice((0x510, 0x511)))
        elif do < 10:
            lines.in_(rng.choice((0x50F, 0x510, 0x511, *range(0x513, 0x51C))), rng.choice((1, 2)))
        elif do < 13:
            lines.out(0x510, rng.choice(FW_CFG_KEYS), 2)
        elif do < 14:
            lines.out(rng.choice((0x510, 0x511)), rng.randrange(4))
        elif do < 18:
            _dma_request(lines, rng)
        elif rng.randrange(30) == 0:
            lines.reset()


def _mouse(lines: Lines, *values: int) -> None:
    for value in values:
        lines.out(0x64, 0xD4)
        lines.out(0x60, value)


def _i8042(lines: Lines, rng: Random, length: int) -> None:
    """Commands of controller, keyboard and mouse, and their interrupts; no resets."""
    lines.reset()
    while len(lines) < length:
        do = rng.randrange(40)
        if do < 12:
            lines.in_(0x60)
        elif do < 20:
            lines.in_(rng.choice((0x64, 0x64, 0x92, 0x20, 0xA0)))
        elif do < 25:
            lines.out(0x64, rng.choice(CONTROLLER))
        elif do < 30:
            lines.out(0x60, rng.choice((*KEYBOARD, rng.randrange(256))) | 1)
        elif do < 35:
            _mouse(lines, rng.choice((*MOUSE, 200, 100, 80, rng.randrange(256))))
        elif do < 36:
            for rate in rng.choice(((200, 100, 80), (200, 200, 80), (200, 80, 100))):
                _mouse(lines, 0xF3)
                lines.in_(0x60)
                _mouse(lines, rate)
        elif do < 38:
            lines.out(0x64, 0x60)
            lines.out(0x60, rng.choice((0x47, 0x77, 0x03, 0x41, 0x65, 0, rng.randrange(256))))
        elif do < 39:
            lines.out(0x92, rng.choice((0, 2, rng.randrange(256) & ~1)))
        elif rng.randrange(3) == 0:
            lines.reset()
            _initialise_pic(lines, rng, rng.choice((0x20, 0xA0)))


PM_BASES = (0xB000, 0x600, 0xC000, 0xB040)
BRIDGE = (0x04, 0x3C, 0x4C, 0x4E, 0x69, 0x70, 0x76, 0x78, *range(0xA0, 0xB0))


def _pm_config(lines: Lines, register: int, value: int, size: int) -> None:
    lines.config_address(1, register, 3)
    lines.out(0xCFC, value, size)


def _piix_reset(lines: Lines) -> None:
    """Power-on, with the routes of PCI interrupts as on QEMU: see DIFFERENCES."""
    lines.reset()
    lines.config_write(1, 0x60, 0x80808080)


def _pm_write(lines: Lines, rng: Random, base: int) -> None:
    """Events and control, without a sleep."""
    if rng.randrange(4) == 0:
        lines.out(base + rng.choice((1, 3, 8)), rng.randrange(0xE0))
    else:
        value = rng.choice((0, 1, 0x21, 0x521, 0xFFFF, rng.randrange(1 << 16)))
        register = rng.choice((0, 0, 2, 2, 4))
        lines.out(base + register, value & 0xDFDF if register == 4 else value, 2)


def _piix(lines: Lines, rng: Random, length: int) -> None:
    """Configuration of bridge and power management, ACPI's registers, the SMI command port."""
    base = PM_BASES[0]
    _piix_reset(lines)
    while len(lines) < length:
        do = rng.randrange(40)
        if do < 6:
            lines.config_address(1, rng.randrange(256), rng.choice((0, 3)))
            lines.in_(0xCFC, rng.choice((1, 2, 4)))
        elif do < 11:
            if rng.randrange(2):
                lines.config_write(1, rng.choice(BRIDGE), rng.randrange(1 << 8), 1)
        elif do < 14:
            base = rng.choice(PM_BASES)
            _pm_config(lines, 0x40, base | rng.randrange(64), 4)
            _pm_config(lines, 0x80, rng.choice((1, 1, 1, 0, 3)), 1)
        elif do < 25:
            lines.in_(base + rng.choice((0, 0, 1, 2, 2, 3, 4, 4, 5, 6, 12)), rng.choice((1, 2)))
        elif do < 32:
            _pm_write(lines, rng, base)
        elif do < 36:
            lines.in_(rng.choice((0xB2, 0xB3)))
            lines.out(0xB2, rng.choice((0xF0, 0xF1, rng.randrange(1 << 16))), rng.choice((1, 2)))
        elif do < 39:
            lines.out(0xA0, rng.choice((0x0A, 0x0C, 0x20)))
            lines.in_(rng.choice((0xA0, 0x20)))
        elif rng.randrange(10) == 0:
            _piix_reset(lines)  # no interrupt is raised whose line QEMU would lower by a route
            for route in range(0x60, 0x64):
                lines.config_write(1, route, rng.randrange(1 << 8), 1)


COM1 = 0x3F8


def _uart_write(lines: Lines, rng: Random) -> None:
    any_ = rng.randrange(256)
    values = {
        1: (0, 1, 2, 3, 4, 5, 7, any_),
        2: (0, 1, 1, 3, 5, 7, 0x41, 0x81, 0xC1, 0xC7, any_),
        3: (3, 3, 0x83, 0, 7, 0x1B, 0x43, any_),
        4: (0x10, 0x18, 0x1F, 0x1B, 8, 0, any_),
        5: (any_,),
        6: (any_,),
        7: (any_,),
    }
    register = rng.choice((1, 1, 1, 2, 2, 3, 4, 4, 4, *range(5, 8)))
    lines.out(COM1 + register, rng.choice(values[register]))


def _uart(lines: Lines, rng: Random, length: int) -> None:
    """All registers, interrupts polled, and much of it in a loop."""
    lines.reset()
    while len(lines) < length:
        do = rng.randrange(40)
        if do < 17:
            lines.in_(COM1 + rng.choice((0, 0, 0, 1, 2, 2, 2, 3, 4, 5, 5, 5, 6, 7)))
        elif do < 18:
            lines.in_(COM1 + rng.randrange(5), rng.choice((2, 4)))
        elif do < 25:
            lines.out(COM1, rng.randrange(256))
        elif do < 37:
            _uart_write(lines, rng)
        elif do < 39:
            lines.out(0x20, rng.choice((0x0A, 0x0B, 0x0C, 0x20)))
            lines.in_(0x20)
        elif rng.randrange(10) == 0:
            lines.reset()


def _diagnostics(lines: Lines, rng: Random, length: int) -> None:
    """POST codes, the FPU's error, a debugging console beside ports without one."""
    while len(lines) < length:
        port = rng.choice((0x80, 0xF0, 0xE9, 0x402))
        size = 1 if port == 0x80 else rng.choice((1, 2))
        if rng.randrange(2):
            lines.out(port, rng.randrange(1 << 8 * size), size)
        else:
            lines.in_(port, size)


RTC_TIME = (*range(10), 0x32, 0x37)
RTC_FLAGS = 0x0C
RTC_PERIODS = 0x40  # their enable in register B


def _mc146818(lines: Lines, rng: Random, length: int) -> None:
    """The clock held by SET, so that its time is storage; CMOS, formats, rates.

    No flags: QEMU's go by the host's clock, which does not stand still.
    """

    def write(index: int, value: int) -> None:
        lines.out(0x70, index)
        lines.out(0x71, value)

    write(0x0B, 0x82)
    for index in RTC_TIME:
        write(index, 0)
    while len(lines) < length:
        do = rng.randrange(40)
        index = rng.choice((*RTC_TIME, *range(0x0A, 0x10), rng.randrange(256)))
        if index & 0x7F == RTC_FLAGS:
            write(index, rng.randrange(256))
        elif do < 14:
            lines.out(0x70, index | rng.choice((0, 0x80)))
            lines.in_(0x71)
        elif do < 16:
            lines.out(0x70, index)
            lines.in_(rng.choice((0x70, 0x71)), rng.choice((1, 2)))
        elif do < 30:
            if index & 0x7F not in (0x0A, 0x0B):
                write(index, rng.choice((0, 0x59, 0x23, 0xC0, rng.randrange(256))))
        elif do < 34:
            write(0x0A, rng.choice((0x20, 0x26, 0x2F, 0x60, 0x70, rng.randrange(256))))
        elif do < 38:
            write(0x0B, 0x80 | rng.randrange(128) & ~RTC_PERIODS)
        elif do < 39:
            lines.out(0x70, rng.choice(RTC_TIME) | rng.randrange(1 << 8) << 8, 2)
        elif rng.randrange(10) == 0:
            lines.reset()


DMA_PORTS = (*range(0x10), *range(0x80, 0x90), *range(0xC0, 0xE0))


def _i8237(lines: Lines, rng: Random, length: int) -> None:
    """All registers of both controllers and the pages; nothing here asks for a transfer."""
    lines.reset()
    while len(lines) < length:
        port, do = rng.choice(DMA_PORTS), rng.randrange(40)
        if do < 19:
            lines.in_(port, 2 if do == 0 and port < 0x0F else 1)
        elif do < 38:
            lines.out(port, rng.choice((0, 1, 2, 4, 0x55, 0xFF, rng.randrange(256))))
        elif do < 39:
            lines.out(rng.randrange(0x0F), rng.randrange(1 << 16), 2)
        elif rng.randrange(30) == 0:
            lines.reset()


# QEMU has its firmware behind 0xe0000: looked at and written only while RAM is shown there.
ROMS = (
    (0xF0000, 0x59, 0x30),
    (0xE0000, 0x5E, 0x03),
    (0xE4000, 0x5E, 0x30),
    (0xE8000, 0x5F, 0x03),
    (0xEC000, 0x5F, 0x30),
)
OPTION_ROMS = (*range(0xC0000, 0xE0000, 0x4000), 0xC8000 - 8, 0xD0000 - 8)
HIDDEN = (0x9FFF8, 0xA0000, 0xA8000, 0xAFFF8, 0xB8000, 0xBFFF8, *OPTION_ROMS)


def _i440fx(lines: Lines, rng: Random, length: int) -> None:
    """PAM and SMRAM show RAM and hide it; the address register and the reset control register."""
    while len(lines) < length:
        do, size = rng.randrange(40), rng.choice((1, 2, 4, 8))
        at = rng.choice(HIDDEN) + rng.randrange(16)
        if do < 10:
            lines.store(at, rng.randrange(1 << 8 * size), size)
        elif do < 20:
            lines.load(at, size)
        elif do < 22:
            lines.read(at, rng.randrange(1, 40))
        elif do < 24:
            lines.write(at, rng.randbytes(rng.randrange(1, 40)))
        elif do < 32:
            _attributes(lines, rng)
        elif do < 34:
            start, register, bits = rng.choice(ROMS)
            lines.config_write(0, register, bits, 1)
            lines.write(start, rng.randbytes(8))
            lines.read(start, 16)
            lines.config_write(0, register, bits ^ 0x33, 1)
        elif do < 37:
            lines.out(rng.choice((0xCF8, 0xCFA)), rng.randrange(1 << 16), rng.choice((1, 2)))
            size = rng.choice((1, 2, 4))
            lines.in_(rng.randrange(0xCF8, 0xCFD - size), size)
        elif do < 39:
            lines.out(0xCF9, rng.randrange(256) & ~4)
            lines.config_read(0, rng.randrange(256) & ~3, 4)
        elif rng.randrange(30) == 0:
            lines.reset()


def _attributes(lines: Lines, rng: Random) -> None:
    register = rng.choice((0x58, 0x5A, 0x5B, 0x5C, 0x5D, 0x72, 0x72))
    size = 1 if register & 3 == 3 else rng.choice((1, 2))
    value = rng.choice((rng.randrange(1 << 8 * size), 0, 0x3333 & (1 << 8 * size) - 1))
    lines.config_write(0, register, value, size)


CHIPS = (
    Chip("diagnostics", ("isa-debugcon,iobase=0x402",), _diagnostics),
    Chip("uart", ("isa-serial",), _uart),
    Chip("piix", (), _piix),
    Chip("i8042", (), _i8042),
    Chip("fw_cfg", (), _fw_cfg),
    Chip("pic", (), _pic),
    Chip("pit", (), _pit),
    Chip("mc146818", (), _mc146818),
    Chip("i8237", (), _i8237),
    Chip("i440fx", (), _i440fx),
)
SCRIPTS = tuple(chip.script(chip.name, LENGTH) for chip in CHIPS)
