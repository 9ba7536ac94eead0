"""Scripts about what is not a display: RAM, configuration space, moving BARs, the RTC."""

from __future__ import annotations

from conformance_script import Lines, Script, seeded
from conformance_vga import LFB, ON_PCI, REGISTERS, WINDOW, map_bars, set_planes

MIB = 1 << 20
ON_WIRE = ("e1000,addr=03.0,netdev=n0",)  # the clock of a machine without a wire stands still


def _ram(lines: Lines) -> None:
    """All commands that reach memory, all sizes and alignments, edges of RAM."""
    rng = seeded("ram")
    for base in (0x1000, 0x9FFC0, MIB, 16 * MIB - 64):
        for offset in range(20):
            for size in (1, 2, 4, 8):
                lines.store(base + offset, rng.randrange(1 << (8 * size)), size)
                lines.load(base + offset, size)
        lines.read(base if base == MIB else base - 8, 72)  # below 1 MiB lies firmware
    lines.store(16 * MIB - 3, 0x1122334455667788, 8)
    lines.read(16 * MIB - 8, 16)
    for length in (1, 2, 3, 100, 4096, 5000):
        data = rng.randbytes(length)
        lines.write(0x20FFB, data)
        lines.read(0x20FF0, length + 20)
        lines.append(f"b64read 0x20ff9 {length + 3}")
    for text, size in (("AQIDBA==", 4), ("AQIDBA==", 3), ("////", 3), ("AAEC", 2)):
        lines.append(f"b64write 0x30001 {size:#x} {text}")
        lines.read(0x30000, 8)
    for text, size in (("0x1", 2), ("0x12", 4), ("0x123", 2), ("0xABCDEF", 2), ("0xab", 0)):
        lines.append(f"write 0x31000 {size} {text}")
        lines.read(0x31000, 6)
    lines.append("write 0x31000 4 0x")
    lines.append("b64write 0x31000 4 ab")
    lines.memset(0x31001, 0, 0x77)
    lines.memset(0x31001, 3, 0x1FF)
    lines.read(0x31000, 6)
    for number in ("010", "0X20", "31", "0x0000000000000000000000000000000000000031"):
        lines.append(f"writeb {number} {number}")
        lines.append(f"readb {number}")
    lines.append("writeq 0x100 -1")
    lines.append("writeb 0x108 0x1234")
    lines.append("read 0x100 0xa trailing words")
    for address in (0x1_0000_0000, 0xFFFF_FFFF_FFFF_FFF8, 0x2_0000_0000_0000, 32 * MIB):
        lines.store(address, 0x55, 8)
        lines.load(address, 8)
    lines.read(0xFFFF_FFFF_FFFF_FFFC, 8)
    lines.append("endianness")
    lines.append("nonsense 1 2 3")
    lines.append(" readb 0x100")
    for port, size in ((0xFFFF, 2), (0xFFFD, 4), (0xFFFF, 4), (0x80, 1), (0x8000, 4)):
        lines.in_(port, size)
        lines.out(port, 0x12345678 & (1 << (8 * size)) - 1, size)


def _config(lines: Lines) -> None:
    """Every byte of the configuration spaces, written with patterns at all sizes."""
    for slot in (0, 2, 3, 31):
        for offset in range(0, 0x40, 4):
            lines.config_read(slot, offset)
        for value in (0xFFFFFFFF, 0x00000000, 0x5AA5C33C):
            for offset in range(0, 0x40, 4):
                lines.config_write(slot, offset, value)
                lines.config_read(slot, offset)
    for function in (1, 7):
        lines.config_address(2, 0, function)
        lines.in_(0xCFC, 4)
    lines.out(0xCF8, 0x8001_1000, 4)  # another bus
    lines.in_(0xCFC, 4)
    lines.out(0xCF8, 0x0000_1000, 4)  # not enabled
    lines.in_(0xCFC, 4)
    for port, size in ((0xCF8, 1), (0xCF8, 2), (0xCF8, 4), (0xCFA, 1), (0xCFA, 2), (0xCFB, 1)):
        lines.out(0xCF8, 0x8000_1004, 4)
        lines.in_(port, size)
        if port != 0xCF8 or size != 4:
            lines.out(port, 0, size)
        lines.in_(0xCF8, 4)
    for offset in range(0x38, 0x44):
        for size in (1, 2, 4):
            lines.out(0xCF8, 0x8000_1000 | offset & 0xFC, 4)
            lines.out(0xCFC + (offset & 3), 0x01020304 * (offset & 7) & (1 << (8 * size)) - 1, size)
            for read in (1, 2, 4):
                lines.in_(0xCFC + (offset & 3), read)
    for low in range(4):
        lines.out(0xCF8, 0x8000_1000 | low, 4)
        for port in range(0xCFC, 0xD00):
            lines.in_(port)
            lines.in_(port, 2)
            lines.in_(port, 4)


def _bar_moves(lines: Lines) -> None:
    """Writes are on their way to a BAR when it moves, is turned off, or lies on others."""
    rng = seeded("bars")
    map_bars(lines)
    bases = (LFB, LFB + 0x0100_0000, 0xC000_0000, 0x0000_0000, 0xFF00_0000, 0x0080_0000)
    current = LFB
    for turn in range(60):
        for _ in range(rng.randrange(1, 12)):
            offset = rng.randrange(0x1000)
            size = rng.choice((1, 2, 4, 8))
            lines.store(current + offset, rng.randrange(1 << (8 * size)), size)
        if turn % 7 == 3:
            lines.config_write(2, 0x04, rng.choice((0, 1, 3)), 2)
        previous, current = current, rng.choice(bases)
        lines.config_write(2, 0x10, current)
        lines.config_read(2, 0x10)
        lines.store(previous + 0x800, 0xDEADBEEF, 4)
        lines.read(previous + rng.randrange(0xF00), 32)
        lines.read(current + rng.randrange(0xF00), 32)
        if turn % 7 == 5:
            lines.config_write(2, 0x04, 3, 2)
    lines.config_write(2, 0x04, 3, 2)
    lines.config_write(2, 0x10, LFB)
    lines.read(LFB, 0x1000)


def _bar_overlaps(lines: Lines) -> None:
    """Two BARs at one place: the one mapped last answers; the window hides nothing of RAM."""
    map_bars(lines)
    lines.write(LFB, bytes(range(64)))
    lines.config_write(2, 0x18, LFB)
    lines.read(LFB, 64)
    lines.read(LFB + 0x500, 16)
    lines.config_write(2, 0x10, LFB + 0x0100_0000)
    lines.config_write(2, 0x10, LFB)
    lines.read(LFB, 64)
    lines.config_write(2, 0x18, REGISTERS)
    lines.read(REGISTERS + 0x500, 16)
    lines.config_write(2, 0x10, 0x0010_0000)
    lines.config_write(2, 0x18, 0x000A_0000)
    set_planes(lines, 0x06, 0x05, 0x00)
    lines.write(WINDOW + 0x400, b"\x11\x22\x33\x44")
    lines.read(WINDOW, 16)
    lines.read(WINDOW + 0x500, 16)
    lines.load(MIB, 8)


def _queued_order(lines: Lines) -> None:
    """Window writes between register writes: each under the mode in force when it was made."""
    rng = seeded("order")
    set_planes(lines, 0x06, 0x05, 0x00)
    for turn in range(300):
        for _ in range(rng.randrange(1, 6)):
            lines.store(WINDOW + rng.randrange(64), rng.randrange(256))
        lines.indexed(0x3CE, rng.choice((0, 1, 3, 5, 8)), rng.choice((0, 1, 2, 3, 0xFF, 0x0F)))
        if turn % 10 == 0:
            lines.read(WINDOW, 64)
        if turn % 25 == 0:
            lines.store(0x2000 + turn, turn, 2)
            lines.load(0x2000 + turn, 2)
    lines.indexed(0x3CE, 5, 0)
    lines.read(WINDOW, 64)


def _memory_attributes(lines: Lines) -> None:
    """PAM and SMRAM put RAM in the place of the video window and of ROMs, and take it away."""
    rng = seeded("pam")
    set_planes(lines, 0x06, 0x05, 0x00)
    # From 0xe0000 on QEMU has its firmware, so that only RAM is looked at there.
    for start, register, on, off in (
        (0xF0000, 0x59, 0x30, 0x0F),
        (0xE0000, 0x5E, 0x01, 0xF0),
        (0xE4000, 0x5E, 0x21, 0x01),
        (0xE8000, 0x5F, 0x02, 0x00),
        (0xEC000, 0x5F, 0x12, 0x02),
    ):
        for data in (rng.randbytes(40), b""):
            lines.config_write(0, register, on, 1)
            lines.write(start, data)
            lines.read(start, 40)
            lines.config_write(0, register, off, 1)
            lines.write(start, bytes(range(40)))
    places = (WINDOW, 0xA8000, 0xB8000, 0xC0000 - 8, *range(0xC0000, 0xE0000, 0x4000))
    for _ in range(1200):
        size = rng.choice((1, 2, 4, 8))
        at = rng.choice(places) + rng.randrange(-8, 16)
        do = rng.randrange(8)
        if do < 3:
            lines.store(at, rng.randrange(1 << 8 * size), size)
        elif do < 5:
            lines.load(at, size)
        elif do == 5:
            lines.read(at, rng.randrange(1, 40))
        elif do == 6:
            lines.write(at, rng.randbytes(rng.randrange(1, 40)))
        else:
            register = rng.choice((0x58, 0x5A, 0x5B, 0x5C, 0x5D, 0x72, 0x72))
            size = 1 if register & 3 == 3 else rng.choice((1, 2))
            value = rng.choice((rng.randrange(1 << 8 * size), 0, 0x3333 & (1 << 8 * size) - 1))
            lines.config_write(0, register, value, size)
    lines.read(WINDOW, 0x40000)


def _window_without_a_display(lines: Lines) -> None:
    """RAM shows where no device takes the video window, whether SMRAM opens it or not."""
    lines.read(WINDOW, 16)
    lines.write(WINDOW - 4, bytes(range(1, 17)))
    lines.store(0xBFFFC, 0x55667788, 4)
    for smram in (0x02, 0x4A, 0x0A):
        lines.config_write(0, 0x72, smram, 1)
        lines.read(WINDOW - 8, 24)
        lines.store(WINDOW + smram, smram)
    lines.reset()
    lines.read(WINDOW, 0x80)
    lines.read(0xBFFF8, 16)


def _rtc(lines: Lines) -> None:
    """The clock held, so that all of it is storage; formats, CMOS, the century's two names."""
    rng = seeded("rtc")

    def write(index: int, value: int) -> None:
        lines.out(0x70, index)
        lines.out(0x71, value)

    def read(index: int) -> None:
        lines.out(0x70, index)
        lines.in_(0x71)

    for index in range(0x0E, 0x80):
        if index not in (0x32, 0x37):
            read(index)
    write(0x0B, 0x82)
    for control in (0x82, 0x86, 0x80, 0x84):
        write(0x0B, control)
        for index in (*range(10), 0x32, 0x37, 0x40, 0x7F, 0xC5):
            for value in (0x00, 0x59, 0xFF, rng.randrange(256)):
                write(index, value)
                read(index)
        read(0x32)
        read(0x37)
        read(0x0D)
        write(0x0D, 0xFF)
        read(0x0D)
    for port, size in ((0x70, 1), (0x70, 2), (0x71, 1), (0x71, 2)):
        write(0x40, 0x5A)
        lines.out(0x70, 0x40)
        lines.in_(port, size)
    lines.out(0x70, 0x3341, 2)
    lines.in_(0x71)
    read(0x41)
    for value in (0x20, 0x26, 0x2F, 0x60, 0x70, 0xFF, 0x26):
        write(0x0A, value)
        read(0x0A)


def _dma(lines: Lines) -> None:
    """The registers of the DMA controllers; nothing here asks for a transfer."""
    rng = seeded("dma")
    for _ in range(1000):
        port = rng.choice((*range(0x10), *range(0x80, 0x90), *range(0xC0, 0xE0)))
        if rng.randrange(2):
            lines.out(port, rng.randrange(256))
        else:
            lines.in_(port)


def _rtc_write(lines: Lines, *pairs: tuple[int, int]) -> None:
    for index, value in pairs:
        lines.out(0x70, index)
        lines.out(0x71, value)


def _rtc_at(lines: Lines, hour: int, reg_b: int, alarm: tuple[int, int, int]) -> None:
    """Half a second before 0 minutes past the next hour, flags cleared."""
    full = 59 if reg_b & 4 else 0x59
    day = ((6, 1), (7, 1), (8, 1), (9, 0x20), (0x32, 20 if reg_b & 4 else 0x20))
    _rtc_write(lines, (0x0A, 0x70), (0x0B, 0x80 | reg_b), (0, full), (2, full), (4, hour), *day)
    _rtc_write(lines, *zip((5, 3, 1), alarm, strict=True), (0x0B, reg_b))
    lines.out(0x70, 0x0C)
    lines.in_(0x71)
    _rtc_write(lines, (0x0A, 0x26))


def _rtc_flags(lines: Lines) -> None:
    """Periods, updates and alarms under SET and in all formats, each wait longer than it takes."""

    def flags() -> None:
        lines.out(0x70, 0x0C)
        lines.in_(0x71)

    lines.wait(1)
    _rtc_at(lines, 0, 0x42, (0, 0, 0))
    _rtc_write(lines, (0x0B, 0xC2))
    lines.wait(50)
    flags()
    under_all = [(0x26, reg_b) for reg_b in (0xC2, 0x02, 0x12)]
    for reg_a, reg_b in (*under_all, *((reg_a, 0x42) for reg_a in (0x2D, 0x21, 0x16, 0x20, 0x36))):
        _rtc_write(lines, (0x0A, reg_a), (0x0B, reg_b))
        lines.wait(1100)
        flags()
    for hour, reg_b, alarm in (
        (0x23, 0x02, (0x00, 0x00, 0x00)),
        (0x09, 0x22, (0x10, 0x00, 0x00)),
        (0x11, 0x02, (0xC0, 0xFF, 0x00)),
        (0x11, 0x02, (0x11, 0x00, 0x00)),
        (0x11, 0x02, (0x12, 0x01, 0x00)),
        (0x11, 0x02, (0x12, 0x00, 0x75)),
        (23, 0x06, (0, 0, 0)),
        (9, 0x26, (10, 0, 0)),
        (0x91, 0x20, (0x00, 0x00, 0x00)),
    ):
        _rtc_at(lines, hour, reg_b, alarm)
        lines.wait(700)
        flags()
        lines.out(0x70, 0x04)
        lines.in_(0x71)


def _rtc_alarm(lines: Lines) -> None:
    """Hour 24: see DIFFERENCES."""
    lines.wait(1)
    _rtc_at(lines, 0x23, 0x02, (0x24, 0x00, 0x00))
    lines.wait(700)
    lines.out(0x70, 0x0C)
    lines.in_(0x71, 2)


def _rtc_divider(lines: Lines) -> None:
    """Periods without a clock: see DIFFERENCES."""
    lines.wait(1)
    _rtc_write(lines, (0x0A, 0x66), (0x0B, 0x42))
    lines.wait(50)
    lines.out(0x70, 0x0C)
    lines.in_(0x71, 2)


def _differences(lines: Lines) -> None:
    """Registers in which this machine and QEMU differ: see DIFFERENCES."""
    lines.out(0x70, 0x0B)
    lines.out(0x71, 0x82)
    lines.out(0x70, 0x40)
    lines.out(0x71, 0x5A)
    lines.out(0x70, 0x40)
    lines.in_(0x70, 4)
    lines.read(0xFFFF0, 4)
    lines.config_address(1, 0, 1)
    lines.in_(0xCFC, 2)
    lines.config_read(1, 0x60)
    lines.in_(0x3F4)
    lines.out(0x4D0, 0x08)
    lines.out(0x4D1, 0x02)
    lines.in_(0x4D0, 2)
    lines.out(0x4D1, 0)
    _shared_line(lines)
    lines.append("b64write 0x2000 5 AQID")
    lines.read(0x2000, 5)


def _shared_line(lines: Lines) -> None:
    """ISA interrupt 9 of ACPI, acknowledged by a poll, then a write of a PCI interrupt's route."""
    for register, value in ((0x40, 0x601), (0x80, 1)):
        lines.config_address(1, register, 3)
        lines.out(0xCFC, value, 4)
    lines.out(0x602, 1, 2)
    for value in (0x0C, 0x20):
        lines.out(0xA0, value)
        lines.in_(0xA0)
    lines.config_write(1, 0x60, 0x80, 1)
    lines.out(0x602, 1, 2)
    lines.out(0xA0, 0x0C)
    lines.in_(0xA0, 2)


SCRIPTS = (
    Script("pc-differences", ON_PCI, _differences),
    Script("dma", ON_PCI, _dma),
    Script("rtc", ON_PCI, _rtc),
    Script("rtc-flags", ON_WIRE, _rtc_flags, network=True),
    Script("rtc-alarm-differences", ON_WIRE, _rtc_alarm, network=True),
    Script("rtc-divider-differences", ON_WIRE, _rtc_divider, network=True),
    Script("ram", ON_PCI, _ram),
    Script("pci-config", ON_PCI, _config),
    Script("memory-attributes", ON_PCI, _memory_attributes),
    Script("window-without-a-display", (), _window_without_a_display),
    Script("pci-bar-moves", ON_PCI, _bar_moves),
    Script("pci-bar-overlaps", ON_PCI, _bar_overlaps),
    Script("vga-queued-order", ON_PCI, _queued_order),
)
