"""A run of writes: one value from the ring to the device."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]
U32 = NDArray[np.uint32]


class WriteRun:
    """Writes in program order, as three arrays of one length with any strides, to be read only.

    A region must keep neither a run nor its arrays: the next run may reuse them.
    """

    __slots__ = ("addresses", "data", "indices", "size", "sizes", "span", "values")

    def __init__(
        self, addresses: U64, sizes: U32, values: U64, size: int, span: tuple[int, int]
    ) -> None:
        """`size`: of every write, 0 when they differ. `span`: a lower bound of the addresses, and
        an upper bound of the last byte of each."""
        self.addresses = addresses
        """Of the first byte of each write: in an address space, or from a region's start."""
        self.sizes = sizes
        self.values = values
        self.size = size
        self.span = span
        self.indices: NDArray[np.intp] = addresses.view(np.intp)
        """The addresses as numpy takes indices; negative from 2**63 on."""
        self.data: NDArray[np.intp] = values.view(np.intp)

    @classmethod
    def of(cls, addresses: U64, sizes: U32, values: U64) -> WriteRun:
        """A run of at least one write, with size and span worked out."""
        largest = int(sizes.max())
        size = largest if int(sizes.min()) == largest else 0
        span = int(addresses.min()), int(addresses.max()) + largest - 1
        return cls(addresses, sizes, values, size, span)

    def __len__(self) -> int:
        return len(self.addresses)

    def part(self, start: int, stop: int | None = None) -> WriteRun:
        """The writes from number `start` up to, not including, `stop` (None: all that follow)."""
        sizes = self.sizes[start:stop]
        size = self.size
        if not size and sizes.min() == (largest := sizes.max()):
            size = int(largest)
        addresses, values = self.addresses[start:stop], self.values[start:stop]
        return WriteRun(addresses, sizes, values, size, self.span)

    def rebased(self, base: int) -> WriteRun:
        """The same writes with addresses that count from `base`, which is not above any."""
        low, last = self.span
        addresses = self.addresses - np.uint64(base)
        return WriteRun(addresses, self.sizes, self.values, self.size, (low - base, last - base))

    def entries(self, start: int = 0, stop: int | None = None) -> list[tuple[int, int, int]]:
        """(address, size, value) of each write of `part(start, stop)`."""
        columns = (self.addresses, self.sizes, self.values)
        return list(zip(*(column[start:stop].tolist() for column in columns), strict=True))
