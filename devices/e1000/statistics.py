"""The card's counters.

Source: 8254x manual, section 13.7; which are cleared when they are read, and what each counts,
follow QEMU 7.2. Every frame is a good one, so that the counters of good frames count what those of
all frames do; reading one leaves the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from coalesced.devices.e1000.registers import (
    BPRC,
    BPTC,
    GORCH,
    GORCL,
    GOTCH,
    GOTCL,
    GPRC,
    GPTC,
    MPC,
    MPRC,
    MPTC,
    PRC64,
    PTC64,
    RNBC,
    ROC,
    TORH,
    TORL,
    TOTH,
    TOTL,
    TPR,
    TPT,
    TSCTC,
    RegisterFile,
)

FCS: Final = 4
"""Bytes of the frame check sequence, which is counted and never seen."""

_MAX: Final = 0xFFFFFFFF
_MAX_64: Final = (1 << 64) - 1
_BROADCAST: Final = b"\xff" * 6

_LAST_CLASS: Final = 1024
"""From this size on; shorter frames than 64 bytes are in no class."""
_CLASSES: Final = (
    *(-1 for _ in range(64)),
    0,
    *(4 * (size.bit_length() - 6) for size in range(65, _LAST_CLASS)),
    20,
)
"""By size: how far a class's counter lies behind that of the first."""

CLEARED_BY_READ: Final = frozenset(
    (
        *range(PRC64, PRC64 + 24, 4),
        GPRC,
        BPRC,
        MPRC,
        GPTC,
        ROC,
        TPR,
        TPT,
        *range(PTC64, PTC64 + 24, 4),
        MPTC,
        BPTC,
        TSCTC,
    )
)
HIGH_HALVES: Final = frozenset((GORCH, GOTCH, TORH, TOTH))
"""Reading one of them clears it and its low half; reading the low half clears nothing."""


class Statistics:
    """Counts; every counter stays at its highest value."""

    def __init__(self, registers: RegisterFile) -> None:
        self._registers = registers

    def read(self, offset: int) -> int:
        """Read a register of CLEARED_BY_READ or HIGH_HALVES."""
        value = self._registers[offset]
        self._registers[offset] = 0
        if offset in HIGH_HALVES:
            self._registers[offset - 4] = 0
        return value

    def sent(self, destinations: Sequence[bytes], sizes: Sequence[int], tags: int = 0) -> None:
        """Count frames that were sent.

        `destinations` holds their first six bytes; where a frame has fewer, the card's buffer still
        holds those of an earlier one, and these count (QEMU 7.2). `tags` bytes of all the frames
        are VLAN tags that the card put in.
        """
        for destination in destinations:
            if destination[0] & 1:
                self._add(BPTC if destination == _BROADCAST else MPTC)
        self._count_sizes(PTC64, sizes, FCS)
        total = sum(sizes) + FCS * len(sizes) - tags
        for frames, octets in ((TPT, TOTL), (GPTC, GOTCL)):
            self._add(frames, len(sizes))
            self._add_64(octets, total)

    def received(self, sizes: Sequence[int], fcs: int) -> None:
        """Count received frames of these sizes; the guest sees each as `fcs` bytes longer."""
        self._count_sizes(PRC64, sizes, fcs)
        total = sum(sizes) + FCS * len(sizes)
        for frames, octets in ((TPR, TORL), (GPRC, GORCL)):
            self._add(frames, len(sizes))
            self._add_64(octets, total)

    def received_broadcast(self) -> None:
        self._add(BPRC)

    def received_multicast(self) -> None:
        self._add(MPRC)

    def oversized(self) -> None:
        """Count a frame that was dropped because it is too long."""
        self._add(ROC)

    def overrun(self) -> None:
        """Count a frame for which too few descriptors were free."""
        self._add(RNBC)
        self._add(MPC)

    def segmented(self) -> None:
        """Count a TCP segmentation whose last frame was sent."""
        self._add(TSCTC)

    def _count_sizes(self, first: int, sizes: Sequence[int], more: int) -> None:
        """Count frames of `more` bytes than these in their classes, from `first` on."""
        registers = self._registers
        for size in sizes:
            at = _CLASSES[min(size + more, _LAST_CLASS)]
            if at >= 0 and registers[first + at] < _MAX:
                registers[first + at] += 1

    def _add(self, offset: int, count: int = 1) -> None:
        registers = self._registers
        registers[offset] = min(registers[offset] + count, _MAX)

    def _add_64(self, low: int, count: int) -> None:
        registers = self._registers
        total = min((registers[low] | registers[low + 4] << 32) + count, _MAX_64)
        registers[low], registers[low + 4] = total & _MAX, total >> 32
