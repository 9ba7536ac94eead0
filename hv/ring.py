"""The coalesced ring: the consumer's end in batches, and the producer's end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coalesced.hv import abi, core
from coalesced.hv.abi import PAGE_SIZE, RING_PAGES_MAX, ring_slots

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Producer = core.Producer


class Consumer:
    """The consumer's end: batches of entries as a structured array (`KVM_COALESCED_MMIO`)."""

    def __init__(self, mapping: core.Mapping, offset: int, size: int) -> None:
        """Continue the ring in `size` bytes at `offset` of the mapping from its present indices.

        Raises ProtocolError when an index is no slot.
        """
        import numpy as np  # noqa: PLC0415 - the guest process only produces

        self.core = core.Consumer(mapping, offset, size)
        slots = self.core.slots
        buffer = memoryview(self.core)
        self._batch = np.frombuffer(buffer, abi.KVM_COALESCED_MMIO, slots)
        columns = np.frombuffer(buffer, np.uint64, 2 * slots, self._batch.nbytes)
        # Where `core.rebase()` puts addresses less a base, modulo 2**64, and data: gapless.
        self.offsets: NDArray[np.uint64] = columns[:slots]
        self.data: NDArray[np.uint64] = columns[slots:]
        # Where `core.peek()` puts `len` of each entry.
        self.sizes: NDArray[np.uint32] = self._batch["len"]
        self.entries = self.core  # as a buffer: the batch
        self._peek = self.core.peek
        self.commit = self.core.commit
        self.rebase = self.core.rebase
        self.pending = self.core.pending  # how many entries are published and not committed

    def peek(self, most: int | None = None) -> NDArray[np.void]:
        """A checked copy of the published entries, oldest first, `data` cut to `len` bytes.

        `most`: how many at most; None: all.

        The array is read-only and overwritten by the next peek. The entries stay in the ring until
        `commit(count)`. Raises ProtocolError with slot and value when an entry or an index breaks
        the rules; entries before a bad one come in a batch of their own first.
        """
        return self.batch(self._peek() if most is None else self._peek(most))

    def batch(self, count: int) -> NDArray[np.void]:
        """The first `count` entries of the last peek."""
        batch: NDArray[np.void] = self._batch[:count]
        return batch


def check_pages(pages: int) -> None:
    """Raise ValueError unless a ring may have `pages` pages."""
    if not 1 <= pages <= RING_PAGES_MAX:
        raise ValueError(f"expected a ring of 1 to {RING_PAGES_MAX} pages, got {pages}")


def usable(pages: int) -> int:
    """Entries that a ring of `pages` pages holds."""
    return ring_slots(pages) - 1


def size_of(pages: int) -> int:
    """Bytes of a ring of `pages` pages."""
    return pages * PAGE_SIZE
