"""The card's PHY behind MDIC.

Source: 8254x manual, sections 8.3 and 13.4.7 (MDIC); register names are those of IEEE 802.3 clause
22, from 16 on those of the M88E1000. What may be read and written follows QEMU 7.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

BMCR: Final = 0
BMSR: Final = 1
PHYID1: Final = 2
PHYID2: Final = 3
ANAR: Final = 4
ANLPAR: Final = 5
ANER: Final = 6
CTRL1000: Final = 9
STAT1000: Final = 10
PHY_SPEC_CTRL: Final = 16
PHY_SPEC_STATUS: Final = 17
EXT_PHY_SPEC_CTRL: Final = 20
RX_ERR_CNTR: Final = 21

BMCR_LOOPBACK: Final = 1 << 14
BMCR_AUTOEN: Final = 1 << 12
BMCR_ANRESTART: Final = 1 << 9
BMCR_STICKS: Final = 0x7DC0
"""Without RESET, ANRESTART and the reserved low bits."""
BMSR_LINK: Final = 1 << 2
BMSR_ANCOMP: Final = 1 << 5
ANLPAR_ACK: Final = 1 << 14

MDIC_DATA: Final = 0xFFFF
MDIC_REGISTER_SHIFT: Final = 16
MDIC_PHY_SHIFT: Final = 21
MDIC_WRITE: Final = 1 << 26
MDIC_READ: Final = 1 << 27
MDIC_READY: Final = 1 << 28
MDIC_INT_EN: Final = 1 << 29
MDIC_ERROR: Final = 1 << 30
ADDRESS: Final = 1
"""Of the only PHY."""

_POWER_ON: Final = {
    BMCR: 0x1140,
    BMSR: 0x794D,
    PHYID1: 0x0141,
    PHYID2: 0x0C20,
    ANAR: 0x0DE1,
    ANLPAR: 0x01E0,
    ANER: 0x0000,
    CTRL1000: 0x0E00,
    STAT1000: 0x3C00,
    PHY_SPEC_CTRL: 0x0360,
    PHY_SPEC_STATUS: 0xAC00,
    EXT_PHY_SPEC_CTRL: 0x0D60,
    RX_ERR_CNTR: 0x0000,
}
_WRITABLE: Final = frozenset((BMCR, ANAR, CTRL1000, PHY_SPEC_CTRL, EXT_PHY_SPEC_CTRL))


class Phy:
    """Its registers. `restart` is called when the guest starts autonegotiation anew."""

    def __init__(self, restart: Callable[[], None]) -> None:
        self._restart = restart
        self._registers = dict(_POWER_ON)

    def reset(self) -> None:
        self._registers = dict(_POWER_ON)

    @property
    def loopback(self) -> bool:
        """True when the card's frames are looped back to it."""
        return bool(self._registers[BMCR] & BMCR_LOOPBACK)

    def mdic(self, old: int, value: int) -> int:
        """MDIC after `value` was written over `old`; the command is carried out at once."""
        if value >> MDIC_PHY_SHIFT & 0x1F != ADDRESS:
            return old | MDIC_ERROR | MDIC_READY
        register = value >> MDIC_REGISTER_SHIFT & 0x1F
        if value & MDIC_READ:
            if register in self._registers:
                value = value & ~MDIC_DATA | self._registers[register]
            else:
                value |= MDIC_ERROR
        elif value & MDIC_WRITE:
            if register in _WRITABLE:
                self._write(register, value & MDIC_DATA)
            else:
                value |= MDIC_ERROR
        return value | MDIC_READY

    def _write(self, register: int, value: int) -> None:
        if register != BMCR:
            self._registers[register] = value
            return
        self._registers[BMCR] = value & BMCR_STICKS
        if value & BMCR_AUTOEN and value & BMCR_ANRESTART:
            self._restart()

    def link_down(self) -> None:
        """Drop the link and the result of autonegotiation."""
        self._registers[BMSR] &= ~(BMSR_LINK | BMSR_ANCOMP)
        self._registers[ANLPAR] &= ~ANLPAR_ACK

    def negotiated(self) -> None:
        """Autonegotiation is complete: the link is up."""
        self._registers[BMSR] |= BMSR_LINK | BMSR_ANCOMP
        self._registers[ANLPAR] |= ANLPAR_ACK

    def state(self) -> tuple[int, ...]:
        """The registers, without the link's state: that follows the clock."""
        timed = {BMSR: BMSR_LINK | BMSR_ANCOMP, ANLPAR: ANLPAR_ACK}
        return tuple(v & ~timed.get(register, 0) for register, v in self._registers.items())
