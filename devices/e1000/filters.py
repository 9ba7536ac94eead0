"""The filters of received frames.

Source: 8254x manual, sections 3.2.1 and 13.5; the order of the filters is QEMU 7.2's.
"""

from __future__ import annotations

from typing import Final

from coalesced.devices.e1000.registers import (
    MTA,
    RA,
    RA_COUNT,
    RAH_AV,
    RCTL,
    RCTL_BAM,
    RCTL_LPE,
    RCTL_MO_SHIFT,
    RCTL_MPE,
    RCTL_SBP,
    RCTL_UPE,
    RCTL_VFE,
    VET,
    VFTA,
    RegisterFile,
)
from coalesced.devices.e1000.statistics import Statistics

LONGEST: Final = 1522
"""Bytes of a frame without its check sequence, unless RCTL.LPE or RCTL.SBP is set."""
LONGEST_LPE: Final = 16384
VLAN_AT: Final = 12
"""Where in a frame the type of a tag stands; the tag itself follows."""
_BROADCAST: Final = b"\xff" * 6
_HASH_SHIFTS: Final = (4, 3, 2, 0)  # of bytes 4 and 5 of the address, by RCTL.MO


def is_tagged(registers: RegisterFile, frame: bytes) -> bool:
    """True when the frame has a VLAN tag, by the type in VET."""
    return int.from_bytes(frame[VLAN_AT : VLAN_AT + 2], "big") == registers[VET] & 0xFFFF


class Filters:
    """The receive filters; they count what they know of a frame."""

    def __init__(self, registers: RegisterFile, statistics: Statistics) -> None:
        self._registers = registers
        self._statistics = statistics

    def is_oversized(self, size: int) -> bool:
        """True when a frame of `size` bytes is longer than RCTL allows."""
        if size <= LONGEST:
            return False
        rctl = self._registers[RCTL]
        if rctl & RCTL_SBP or (rctl & RCTL_LPE and size <= LONGEST_LPE):
            return False
        self._statistics.oversized()
        return True

    def accept(self, frame: bytes) -> bool:
        """True when a frame of at least 60 bytes passes the filters."""
        rctl = self._registers[RCTL]
        if rctl & RCTL_VFE and is_tagged(self._registers, frame):
            tag = int.from_bytes(frame[VLAN_AT + 2 : VLAN_AT + 4], "big")
            if not self._registers[VFTA + 4 * (tag >> 5 & 0x7F)] >> (tag & 0x1F) & 1:
                return False
        if frame[0] & 1:
            if rctl & RCTL_MPE:
                self._statistics.received_multicast()
                return True
            if rctl & RCTL_BAM and frame[:6] == _BROADCAST:
                self._statistics.received_broadcast()
                return True
        elif rctl & RCTL_UPE:
            return True
        return self._is_own(frame) or self._is_in_table(frame, rctl)

    def _is_own(self, frame: bytes) -> bool:
        low = int.from_bytes(frame[:4], "little")
        high = frame[4] | frame[5] << 8
        registers = self._registers
        for at in range(RA, RA + 8 * RA_COUNT, 8):
            if registers[at] == low:
                rah = registers[at + 4]
                if rah & RAH_AV and rah & 0xFFFF == high:
                    return True
        return False

    def _is_in_table(self, frame: bytes, rctl: int) -> bool:
        number = (frame[4] | frame[5] << 8) >> _HASH_SHIFTS[rctl >> RCTL_MO_SHIFT & 3] & 0xFFF
        if not self._registers[MTA + 4 * (number >> 5)] >> (number & 0x1F) & 1:
            return False
        self._statistics.received_multicast()
        return True
