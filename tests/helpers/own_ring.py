"""A ring of a device's own with both ends in one process."""

from __future__ import annotations

import os
import select

from coalesced.hv import abi, core, ring
from helpers.hv_pair import segment

ENTRIES = 5  # of a small ring, which has a slot more


class Own:
    """The ring, mapped once for each side, and its descriptor."""

    def __init__(self, entries: int = ENTRIES, wake_at: int | None = None) -> None:
        """It reports `wake_at` entries and more, half of all if None."""
        size = abi.KVM_COALESCED_MMIO_RING_HEADER + (entries + 1) * abi.KVM_COALESCED_MMIO.itemsize
        self.wake_at = wake_at or (entries + 1) // 2
        self.part = segment("coalesced buffer", abi.PAGE_SIZE * (1 - -size // abi.PAGE_SIZE))
        self.size = size
        self.fd = os.eventfd(0, os.EFD_NONBLOCK)
        guest = core.Mapping([self.part])
        self.guest = core.VmRing(guest, abi.PAGE_SIZE, size)
        self.guest.own(self.fd, self.wake_at)
        self.mapping = core.Mapping([self.part])
        self.ring = ring.Consumer(self.mapping, abi.PAGE_SIZE, size)
        self.ring.core.own(self.fd)
        self.ring.core.follow()

    def readable(self) -> bool:
        return bool(select.select([self.fd], [], [], 0)[0])

    def drain(self) -> list[int]:
        """The values of all published entries, taken out."""
        batch = self.ring.peek()
        values: list[int] = batch["data"].tolist()
        self.ring.commit(len(batch))
        return values

    def close(self) -> None:
        os.close(self.fd)
        os.close(self.part[1])
