"""What of recorded loads cannot be expected to repeat: it depends on time, the wire or the host."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from coalesced.devices.e1000 import phy
from coalesced.devices.e1000.registers import (
    ICR,
    ICS,
    MDIC,
    MMIO_SIZE,
    RDH,
    STATISTICS,
    STATISTICS_END,
    STATUS,
    STATUS_LU,
    TDH,
)
from coalesced.hv.abi import OP_IN
from coalesced.tools.traces.tracefile import Trace

Mask = NDArray[np.bool_]

# Port: name of the register.
_PORTS = {
    0x71: "RTC data (0x71)",  # the time, and what the firmware was told of the host
    0x3BA: "VGA status 1 (0x3ba)",  # bits 0 and 3 follow the beam
    0x3DA: "VGA status 1 (0x3da)",
}

E1000 = "e1000-mmio"
# (first offset, end): name of the registers.
_E1000 = {
    (ICR, ICR + 4): "e1000 ICR",
    (ICS, ICS + 4): "e1000 ICS",
    (TDH, TDH + 4): "e1000 TDH",
    (RDH, RDH + 4): "e1000 RDH",
    (STATISTICS, STATISTICS_END): "e1000 statistics",
}
# PHY register: (name, bits that follow the link and its negotiation).
_PHY = {
    phy.BMSR: ("e1000 MDIC, PHY 1 BMSR: link", phy.BMSR_LINK | phy.BMSR_ANCOMP),
    phy.ANLPAR: ("e1000 MDIC, PHY 1 ANLPAR: acknowledged", phy.ANLPAR_ACK),
}
_PHY_SELECT = 0x3FF << phy.MDIC_REGISTER_SHIFT


def whole(recorded: Trace) -> dict[str, Mask]:
    """Per register that is not checked at all: which of the accesses read it."""
    ops = recorded.ops
    is_in = ops["kind"] == OP_IN
    found = {name: is_in & _touches(ops, port, port + 1) for port, name in _PORTS.items()}
    card, offsets = _e1000_reads(recorded)
    for (first, end), name in _E1000.items():
        found[name] = card & (offsets >= first) & (offsets < end)
    return {name: mask for name, mask in found.items() if mask.any()}


def in_part(recorded: Trace) -> dict[str, tuple[Mask, int]]:
    """Per register of which bits are left out: which of the accesses read it, and those bits."""
    card, offsets = _e1000_reads(recorded)
    found = {"e1000 STATUS: link": (card & (offsets == STATUS), STATUS_LU)}
    # A value names the register that it was read of: the only PHY's.
    selected = (recorded.ops["value"] & _PHY_SELECT) >> phy.MDIC_REGISTER_SHIFT
    for register, (name, bits) in _PHY.items():
        wanted = phy.ADDRESS << phy.MDIC_PHY_SHIFT - phy.MDIC_REGISTER_SHIFT | register
        found[name] = (card & (offsets == MDIC) & (selected == wanted), bits)
    return {name: pair for name, pair in found.items() if pair[0].any()}


def _touches(ops: NDArray[np.void], first: int, end: int) -> Mask:
    """Which accesses have a byte in [first, end)?"""
    return np.asarray((ops["address"] < end) & (ops["address"] + ops["size"] > first))


def _e1000_reads(recorded: Trace) -> tuple[Mask, NDArray[np.uint64]]:
    """Which accesses read a register of the card, and the offsets of the registers of all."""
    names = [index for index, name in enumerate(recorded.names) if name == E1000]
    offsets = recorded.ops["address"] & np.uint64(MMIO_SIZE - 4)
    return np.isin(recorded.region, names) & recorded.reads, offsets
