"""Memory for a ring, and its bytes as a hostile peer writes them."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from coalesced.hv import abi, core
from helpers.hv_oracle import Entry
from helpers.hv_pair import segment

HEADER = abi.KVM_COALESCED_MMIO_RING_HEADER
ENTRY = abi.KVM_COALESCED_MMIO.itemsize


@contextmanager
def memory(size: int) -> Iterator[core.Mapping]:
    """A mapping of its own of at least `size` bytes."""
    part = segment("ring", -(-size // abi.PAGE_SIZE) * abi.PAGE_SIZE)
    try:
        yield core.Mapping([part])
    finally:
        os.close(part[1])


def size_for(slots: int) -> int:
    """Bytes of a ring with exactly `slots` slots."""
    return HEADER + slots * ENTRY


def put_slot(mapping: core.Mapping, slot: int, entry: tuple[int, int, int, int]) -> None:
    """Write a slot's bytes as a hostile producer does."""
    mapping.write(HEADER + slot * ENTRY, struct.pack("<QIIQ", *entry))


def entries_of(batch: np.ndarray[tuple[int], np.dtype[np.void]]) -> list[Entry]:
    """A batch as the oracle's entries."""
    return [Entry(*entry) for entry in batch.tolist()]
