"""The card's EEPROM of 64 words, behind EERD and behind the four wires of EECD.

Source: 8254x manual, sections 5.3 to 5.6 (the map, the Microwire interface), 13.4.3 and 13.4.4.
"""

from __future__ import annotations

import struct
from typing import Final

from coalesced.devices.e1000.registers import (
    EERD_ADDRESS_SHIFT,
    EERD_DATA_SHIFT,
    EERD_DONE,
    EERD_START,
)

WORDS: Final = 64
CHECKSUM: Final = 0x3F
CHECKSUM_TOTAL: Final = 0xBABA
"""Sum of all words, modulo 65536."""

EECD_SK: Final = 0x01
EECD_CS: Final = 0x02
EECD_DI: Final = 0x04
EECD_DO: Final = 0x08
EECD_FWE: Final = 0x30
EECD_REQ: Final = 0x40
EECD_GNT: Final = 0x80
EECD_PRES: Final = 0x100
_EECD_WRITABLE: Final = EECD_SK | EECD_CS | EECD_DI | EECD_FWE | EECD_REQ

_COMMAND_BITS: Final = 9  # a start bit, two of opcode, six of address
_READ: Final = 0b110  # start bit and opcode

# The contents of QEMU's EEPROM, by word; the first three are the address, the last the checksum.
_FACTORY: Final = {
    0x04: 0xFFFF,
    0x08: 0x3000,
    0x09: 0x1000,
    0x0A: 0x6403,
    0x0B: 0x100E,  # subsystem
    0x0C: 0x8086,
    0x0D: 0x100E,  # device
    0x0E: 0x8086,
    0x0F: 0x3040,
    0x10: 0x0008,
    0x11: 0x2000,
    0x12: 0x7E14,
    0x13: 0x0048,
    0x14: 0x1000,
    0x15: 0x00D8,
    0x17: 0x2700,
    0x18: 0x6CC9,
    0x19: 0x3150,
    0x1A: 0x0722,
    0x1B: 0x040B,
    0x1C: 0x0984,
    0x1E: 0xC000,
    0x1F: 0x0706,
    0x20: 0x1008,
    0x22: 0x0F04,
    0x23: 0x7FFF,
    0x24: 0x4D01,
    **dict.fromkeys(range(0x25, 0x30), 0xFFFF),
    0x30: 0x0100,
    0x31: 0x4000,
    0x32: 0x121C,
    **dict.fromkeys(range(0x33, CHECKSUM), 0xFFFF),
}


def contents(mac: bytes) -> tuple[int, ...]:
    """The 64 words of a card with an address of six bytes."""
    words = [_FACTORY.get(index, 0) for index in range(WORDS)]
    words[:3] = struct.unpack("<3H", mac)
    words[CHECKSUM] = (CHECKSUM_TOTAL - sum(words[:CHECKSUM])) & 0xFFFF
    return tuple(words)


class Eeprom:
    """Read-only words; reset leaves the wires as they are."""

    def __init__(self, mac: bytes) -> None:
        self.words = contents(mac)
        self._pins = 0
        self._shifted_in = 0
        self._bits_in = 0
        self._bits_out = 0
        self._reading = False

    def read_eerd(self, eerd: int) -> int:
        """EERD as read after `eerd` was written: the word is available at once."""
        if not eerd & EERD_START:
            return eerd
        result = eerd & ~EERD_START | EERD_DONE
        word = result >> EERD_ADDRESS_SHIFT
        return result | self.words[word] << EERD_DATA_SHIFT if word < WORDS else result

    def read_eecd(self) -> int:
        """Data out is high as long as nothing is read."""
        value = EECD_PRES | EECD_GNT | self._pins
        out = self._bits_out
        if not self._reading or self.words[out >> 4 & 0x3F] >> (~out & 0xF) & 1:
            value |= EECD_DO
        return value

    def write_eecd(self, value: int) -> None:
        """Move the wires. Bits go in on a rising edge of SK, out on a falling one."""
        changed = value ^ self._pins
        self._pins = value & _EECD_WRITABLE
        if not value & EECD_CS:
            return
        if changed & EECD_CS:
            self._shifted_in = self._bits_in = self._bits_out = 0
            self._reading = False
        if not changed & EECD_SK:
            return
        if not value & EECD_SK:
            self._bits_out = (self._bits_out + 1) & 0xFFFF
            return
        self._shifted_in = (self._shifted_in << 1 | bool(value & EECD_DI)) & 0xFFFFFFFF
        self._bits_in = (self._bits_in + 1) & 0xFFFF
        if self._bits_in == _COMMAND_BITS and not self._reading:
            self._bits_out = ((self._shifted_in & 0x3F) << 4) - 1 & 0xFFFF
            self._reading = self._shifted_in >> 6 & 7 == _READ

    def state(self) -> tuple[int, ...]:
        """The wires, and how far a command has come."""
        reading = int(self._reading)
        return self._pins, self._shifted_in, self._bits_in, self._bits_out, reading
