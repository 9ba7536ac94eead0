"""Compares the values of recorded loads, except what depends on time, the wire or the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
from coalesced.tools.traces.trace import Trace

Mask = NDArray[np.bool_]

# Port: name of the register.
_PORTS = {
    0x20: "interrupt controller (0x20)",  # requests come by the time
    0x40: "timer (0x40)",
    0x41: "timer (0x41)",
    0x42: "timer (0x42)",
    0x60: "keyboard data (0x60)",  # keys come from the host
    0x61: "speaker and timer gate (0x61)",
    0x64: "keyboard status (0x64)",
    0x71: "RTC data (0x71)",  # the time, and facts about the host in CMOS
    0xA0: "interrupt controller (0xa0)",
    0x510: "fw_cfg (0x510)",  # facts about the host
    0x511: "fw_cfg (0x511)",
    0x3BA: "VGA status 1 (0x3ba)",  # bits 0 and 3 follow the beam
    0x3DA: "VGA status 1 (0x3da)",
}

# Region, wherever it is placed: name of the register.
_REGIONS = {"acpi-evt": "ACPI events", "acpi-tmr": "ACPI timer"}

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


@dataclass(frozen=True)
class Compared:
    """Recorded loads beside the values that they gave now."""

    checked: Mask  # per access: is it a load that is compared?
    equal: Mask
    unchecked: Mapping[str, int]  # loads that are not compared, by the reason
    masked: Mapping[str, int]  # loads of which some bits are not compared

    @property
    def matching(self) -> int:
        """Number of checked loads that are equal."""
        return int((self.checked & self.equal).sum())

    def wrong(self, most: int) -> list[int]:
        """The indices of the first checked loads that differ."""
        found: list[int] = np.flatnonzero(self.checked & ~self.equal)[:most].tolist()
        return found


def compare(
    recorded: Trace, got: NDArray[np.uint64], left_out: Mapping[str, Mask] | None = None
) -> Compared:
    """Compare the value of each access with `got`; not those of `left_out`, by the reason."""
    checked, reasons = recorded.reads.copy(), {}
    for name, mask in {**(left_out or {}), **unchecked(recorded)}.items():
        if count := int((checked & mask).sum()):
            reasons[name] = count
        checked &= ~mask
    ignored = np.zeros(len(got), dtype=np.uint64)
    parts = {}
    for name, (mask, bits) in masked(recorded).items():
        parts[name] = int((checked & mask).sum())
        ignored[mask] = bits
    equal = got | ignored == recorded.ops["value"] | ignored
    return Compared(checked, np.asarray(equal), reasons, parts)


def unchecked(recorded: Trace) -> dict[str, Mask]:
    """Per register that is not compared at all: the accesses that read it."""
    ops = recorded.ops
    is_in = ops["kind"] == OP_IN
    found = {name: is_in & _touches(ops, port, port + 1) for port, name in _PORTS.items()}
    for region, name in _REGIONS.items():
        found[name] = recorded.reads & _is_in(recorded, region)
    card, offsets = _e1000_reads(recorded)
    for (first, end), name in _E1000.items():
        found[name] = card & (offsets >= first) & (offsets < end)
    return {name: mask for name, mask in found.items() if mask.any()}


def masked(recorded: Trace) -> dict[str, tuple[Mask, int]]:
    """Per register with bits that are not compared: the accesses that read it, and those bits."""
    card, offsets = _e1000_reads(recorded)
    found = {"e1000 STATUS: link": (card & (offsets == STATUS), STATUS_LU)}
    # A value of MDIC names the PHY and the register that it was read from.
    selected = (recorded.ops["value"] & _PHY_SELECT) >> phy.MDIC_REGISTER_SHIFT
    for register, (name, bits) in _PHY.items():
        wanted = phy.ADDRESS << phy.MDIC_PHY_SHIFT - phy.MDIC_REGISTER_SHIFT | register
        found[name] = (card & (offsets == MDIC) & (selected == wanted), bits)
    return {name: pair for name, pair in found.items() if pair[0].any()}


def _touches(ops: NDArray[np.void], first: int, end: int) -> Mask:
    """The accesses that have a byte in [first, end)."""
    return np.asarray((ops["address"] < end) & (ops["address"] + ops["size"] > first))


def _e1000_reads(recorded: Trace) -> tuple[Mask, NDArray[np.uint64]]:
    """The accesses that read a register of the card, and every access's offset in the card."""
    offsets = recorded.ops["address"] & np.uint64(MMIO_SIZE - 4)
    return _is_in(recorded, E1000) & recorded.reads, offsets


def _is_in(recorded: Trace, region: str) -> Mask:
    """The accesses to a region."""
    names = [index for index, name in enumerate(recorded.names) if name == region]
    return np.isin(recorded.region, names)
