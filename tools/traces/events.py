"""The events of a recording, in columns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.intp]
Words = NDArray[np.uint64]
Mask = NDArray[np.bool_]
Times = NDArray[np.int64]

NO_TIME: Final = -1


class Kind(IntEnum):
    """The kinds of lines that a pattern of a format recognises."""

    READ = 0  # of a port or of memory, by the address
    WRITE = 1
    LOAD = 2
    STORE = 3
    IN = 4
    OUT = 5
    IOEVENTFD = 6  # a store that the kernel turned into a signal: neither size nor value
    LOAD_BEGINS = 7  # a load that no device in the kernel answers; a LOAD may follow
    EXIT_MMIO = 8
    EXIT_IO = 9
    EXIT_HLT = 10
    EXIT_OTHER = 11
    OFFSET_RAM_DEVICE = 12  # accesses at an offset in a region of unknown address
    OFFSET_SUBPAGE = 13
    NO_VALUE = 14  # an access whose instruction the recorder could not decode
    LOST = 15  # the recorder lost events here
    KNOWN = 16  # a line of the format that is not needed


READS: Final = (Kind.READ, Kind.LOAD, Kind.IN)
WRITES: Final = (Kind.WRITE, Kind.STORE, Kind.OUT)
EXITS: Final = (Kind.EXIT_MMIO, Kind.EXIT_IO, Kind.EXIT_HLT, Kind.EXIT_OTHER)

_IS_READ = np.isin(np.arange(256), READS)
_IS_WRITE = np.isin(np.arange(256), WRITES)

EVENT = np.dtype(
    [
        ("address", "<u8"), ("value", "<u8"), ("region", "<u8"), ("name", "<u8"), ("time", "<i8"),
        ("line", "<i8"), ("thread", "<i4"), ("count", "<u4"), ("name_start", "<u4"),
        ("name_length", "<u2"), ("size", "u1"), ("kind", "u1"),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Events:
    """One row per line that was recognised. `name` counts the names of regions."""

    number: NDArray[np.int64]  # of the line in its file, from 1
    kind: NDArray[np.uint8]
    thread: NDArray[np.int32]  # of the host, or the vCPU; -1: no vCPU
    mr: Words  # the region, 0 unknown
    address: Words
    value: Words
    size: NDArray[np.uint8]
    count: NDArray[np.uint32]  # of elements; of a string instruction only the first has a value
    time: Times  # nanoseconds, NO_TIME
    name: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.number)

    @property
    def is_read(self) -> Mask:
        """Per event: whether it is an access that reads."""
        return np.asarray(_IS_READ[self.kind])

    @property
    def is_access(self) -> Mask:
        """Per event: whether it is an access with its value."""
        return np.asarray(_IS_READ[self.kind] | _IS_WRITE[self.kind])

    @property
    def is_write(self) -> Mask:
        """Per event: whether it is an access that writes."""
        return np.asarray(_IS_WRITE[self.kind])

    def take(self, which: Mask | Positions) -> Self:
        """The chosen events, in that order."""
        return type(self)(*(getattr(self, f.name)[which] for f in fields(self)))

    @classmethod
    def joined(cls, parts: Iterable[Self]) -> Self:
        """The events of several blocks, one behind the other; at least one block."""
        every = list(parts)
        columns = ([getattr(part, f.name) for part in every] for f in fields(cls))
        return cls(*(np.concatenate(column) for column in columns))

    @classmethod
    def none(cls) -> Self:
        """No event."""
        return cls.of(np.empty(0, EVENT), np.empty(0, np.int32), 0)

    @classmethod
    def of(cls, found: NDArray[np.void], name: NDArray[np.int32], lines_before: int) -> Self:
        """The records of a block; a value is cut to the width of its access."""
        size = found["size"].copy()
        bits = (8 * np.maximum(size, 1)).astype(np.uint64)
        return cls(
            found["line"] + lines_before + 1,
            found["kind"].copy(),
            found["thread"].copy(),
            found["region"].copy(),
            found["address"].copy(),
            found["value"] & ~np.uint64(0) >> (np.uint64(64) - bits),
            size,
            found["count"].copy(),
            found["time"].copy(),
            name,
        )


class Foreign(NamedTuple):
    """A line that is no event of the format."""

    line: int
    text: bytes
