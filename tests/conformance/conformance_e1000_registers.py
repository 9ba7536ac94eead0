"""Scripts about the e1000's registers, EEPROM and PHY."""

from __future__ import annotations

from conformance_e1000 import (
    BAR,
    DEVICE,
    PORTS,
    SLOT,
    map_bars,
    mdic,
    read,
    write,
)
from conformance_script import Lines, Script, seeded

from coalesced.devices.e1000 import eeprom, phy
from coalesced.devices.e1000 import registers as reg

_OFFSETS = (
    *range(0x0000, 0x0470, 4),
    0x0E00,
    *range(0x0FFC, 0x1008, 4),
    *range(0x2400, 0x2440, 4),
    *range(0x27FC, 0x2834, 4),
    *range(0x3400, 0x3440, 4),
    *range(0x37FC, 0x3834, 4),
    *range(0x4000, 0x4104, 4),
    *range(0x51FC, 0x5410, 12),
    *range(0x5470, 0x5490, 4),
    *range(0x55F8, 0x5820, 20),
    *range(0x5800, 0x58A0, 4),
    *range(0x59FC, 0x5A90, 8),
    *range(0x5B4C, 0x5B58, 4),
    *range(0x5EFC, 0x5F28, 4),
    *range(0x8FFC, 0x9020, 4),
    *range(0x93F0, 0x9408, 4),
    *range(0x97F8, 0x9810, 4),
    *range(0x9BF0, 0x9C08, 4),
    0xFFFC,
    0x10000,
    0x18000,
    0x1FFFC,
)


def _registers(lines: Lines) -> None:
    """Every register with patterns; then all sizes and alignments; the ports; reset by CTRL."""
    map_bars(lines)
    for offset in _OFFSETS:
        read(lines, offset)
    for value in (0xFFFFFFFF, 0x5AA5C33C, 0x00000000):
        for offset in _OFFSETS:
            # TCTL without EN: no ring is there. MDIC without a command.
            keep = {reg.TCTL: ~reg.TCTL_EN, reg.MDIC: 0xFFFF}.get(offset, -1)
            write(lines, offset, value & keep)
            read(lines, offset)
    _register_sizes(lines)
    write(lines, reg.IMC, 0xFFFFFFFF)
    for port in range(PORTS, PORTS + 0x40, 3):
        for size in (1, 2, 4):
            lines.out(port, reg.CTRL, size)
            lines.in_(port, size)
    write(lines, reg.CTRL, reg.CTRL_RST | reg.CTRL_VME)
    for offset in (reg.CTRL, reg.STATUS, reg.RA, reg.VET):
        read(lines, offset)
    for offset in range(0, 0x100, 4):
        lines.config_read(SLOT, offset)
    for offset in (0x10, 0x14, 0x18, 0x30, 0x3C):
        lines.config_write(SLOT, offset, 0xFFFFFFFF)
        lines.config_read(SLOT, offset)


def _register_sizes(lines: Lines) -> None:
    """All sizes and alignments, also in one command, and at the end of the BAR."""
    rng = seeded("e1000 registers")
    for _ in range(600):
        offset = rng.choice((reg.RA, reg.MTA, reg.VFTA + 0x1F8, reg.ITR, reg.RDH, reg.WUPM))
        offset += rng.randrange(16)
        size = rng.choice((1, 2, 4, 8))
        if rng.random() < 0.5:
            write(lines, offset, rng.randrange(1 << 8 * size), size)
        else:
            read(lines, offset, size)
    for offset in (0xFFE, 0xFFF, 0x1FFF, 0x1FFF8, 0x1FFF9, 0x1FFFC, 0x1FFFD, 0x1FFFF):
        for size in (1, 2, 4, 8):
            write(lines, offset, 0x8877665544332211 & (1 << 8 * size) - 1, size)
            read(lines, offset, size)
    lines.read(BAR + 0x5400, 0x44)
    lines.write(BAR + 0x5403, rng.randbytes(30))
    lines.read(BAR + 0x53FD, 0x44)


def _eecd(lines: Lines, command: int, bits: int, extra: int) -> None:
    """Shift a command of so many bits in, and more bits than a word out."""
    write(lines, reg.EECD, 0)
    write(lines, reg.EECD, eeprom.EECD_CS)
    for bit in range(bits - 1, -1, -1):
        level = eeprom.EECD_CS | (eeprom.EECD_DI if command >> bit & 1 else 0)
        for pins in (level, level | eeprom.EECD_SK):
            write(lines, reg.EECD, pins)
        read(lines, reg.EECD)
        write(lines, reg.EECD, level)
    for _ in range(extra):
        write(lines, reg.EECD, eeprom.EECD_CS | eeprom.EECD_SK)
        read(lines, reg.EECD)
        write(lines, reg.EECD, eeprom.EECD_CS)
        read(lines, reg.EECD)


def _eeprom_and_phy(lines: Lines) -> None:
    """All words and all PHY registers, by all ways; interrupts of MDIC."""
    rng = seeded("e1000 eeprom")
    map_bars(lines)
    for word in (*range(eeprom.WORDS + 2), 0x7F, 0x100, 0xFFFF):
        write(lines, reg.EERD, word << 8 | reg.EERD_START)
        read(lines, reg.EERD)
    for value in (0, reg.EERD_DONE, 0xFFFFFFFE, 0xABCD0311, 0x0003_03FF):
        write(lines, reg.EERD, value)
        read(lines, reg.EERD)
    for word in (0, 1, 2, 0x0B, 0x24, 0x3F):
        _eecd(lines, 0b110_000000 | word, 9, 18)
    _eecd(lines, 0b110_000000, 9, 40)  # into the next words
    _eecd(lines, 0b110_111111, 9, 40)  # and around
    for command in (0b100_110000, 0b101_000001, 0b111_000001, 0b010_000001, 0b011_000000):
        _eecd(lines, command, 9, 4)
    _eecd(lines, 0b0_110_000001, 10, 4)
    _eecd(lines, 0b11000000, 8, 4)
    for _ in range(300):
        write(lines, reg.EECD, rng.randrange(0x200))
        read(lines, reg.EECD)
    for register in range(32):
        mdic(lines, phy.MDIC_READ, register)
    for value in (0xFFFF & ~phy.BMCR_ANRESTART, 0xA5C3 & ~phy.BMCR_ANRESTART, 0x0000):
        for register in range(32):
            mdic(lines, phy.MDIC_WRITE, register, value)
            mdic(lines, phy.MDIC_READ, register)
    for address in (0, 1, 2, 31):
        for command in (0, phy.MDIC_READ, phy.MDIC_WRITE, phy.MDIC_READ | phy.MDIC_WRITE):
            for more in (0, phy.MDIC_INT_EN, phy.MDIC_ERROR, phy.MDIC_READY, 1 << 31):
                mdic(lines, command | more, rng.randrange(32), 0x1234, address)
                read(lines, reg.ICS)
                read(lines, reg.ICR)


SCRIPTS = (
    Script("e1000-registers", DEVICE, _registers),
    Script("e1000-eeprom-phy", DEVICE, _eeprom_and_phy),
)
