"""Passes over the events of a recording (passes/): each takes them block by block.

A block is an array of `spool.RECORD`. `whole` is `spool.Whole` as a tuple; `ranges` and `zones` are
arrays of `spool.RANGE`; `drains` are the numbers that `unseen` gives. All raise MemoryError.
"""

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
Whole = tuple[bool, bool, int, int, int]
Bins = list[tuple[int, int, int, int]]  # range, bin, waits in it, the longest

class Pass: ...

# Traits of an event; EXITS and ENDED are set by the pass `order`.
READ: int
WRITE: int
PORT: int
ANNOUNCED: int  # a load before its exit; its value follows
EXIT: int
EXIT_MMIO: int
EXIT_IO: int
KERNEL: int  # an interrupt controller that the kernel plays
EXITS: int
ENDED: int  # a load that was announced
PARTS: int  # of a recording, for pictures

def order() -> Pass:
    """Mark writes that exit and loads that end.

    Gives new traits for records of earlier blocks, as pairs of index and traits, and the threads.
    """

def survey(least: int, /) -> Pass:
    """List the addresses that are written; `least`: entries with which a ring may be full.

    Gives, of each address: itself, 1 for a port, the widest write, and how its writes went: 1
    queued, 2 exits when the ring may be full, 4 other exits.
    """

def evidence(
    whole: Whole,
    ranges: Array,
    zones: Array,
    pci: tuple[int, int, int],
    odd: tuple[int, int],
    /,
) -> Pass:
    """Count what the writes of ranges do.

    Gives `evidence.FOUND`, the waits for the next access, and `ranges.ODD`. `odd`: nanoseconds
    after which a write is late, and the late writes, or reads of another value than was written,
    that make an address of a window odd.

    The mark of a range has bit 0 for a window, bit 1 for one whose data is not kept: no value that
    is read back, none that counts up. `pci`: the ports of configuration address and data, and a bit
    for each word that maps.
    """

def waits(whole: Whole, ranges: Array, /) -> Pass:
    """From the end: how long writes wait for a drain; gives `evidence.LONGEST` and the waits."""

def pairs(candidates: Array, staleness: int, /) -> Pass:
    """Hold the data beside index registers against the index; a mark has a bit per distance.

    Gives, of each: different answers and values that select, up to 4; same, changed, echoes, late,
    awaited.
    """

def unseen(whole: Whole, zones: Array, slots: int, count: bool, /) -> Pass:
    """Find drains that no line shows, and count the fullness of the ring.

    Gives the numbers of the writes before which they are, among those that were queued; how many
    were; and the counts by first slot, entries and exit.
    """

def exits(
    whole: Whole,
    recorded: Array,
    zones: Array,
    singles: Array,
    drains: Array,
    slots: Array,
    limits: Array,
    ring: tuple[bool, int],
    owners: Array,
    devices: Array,
    /,
) -> Pass:
    """Count exits under other conditions.

    `recorded`: zones in force; `zones`: with the advised ones; `singles`: each alone beside those
    in force. `slots`: of rings, the first one that of the recording. `limits`: in nanoseconds.
    `ring`: whether the kernel is mended, and the first slot. `owners`, `devices`: the number of
    the ring of its own that a zone has. Gives exits by ring, by single, exits and drains by limit,
    exits with rings of their own, exits by part as recorded and with `zones`; and of the agreement
    writes, exits, predicted, agreed, unseen, explained, and the first lines that nothing explains.
    """

def late(
    whole: Whole, recorded: Array, zones: Array, drains: Array, queued: int, limits: Array, /
) -> Pass:
    """From the end: how many writes wait longer than each limit; `queued`: writes in all."""

def depth(
    whole: Whole,
    recorded: Array,
    zones: Array,
    drains: Array,
    ring: tuple[int, bool, int],
    /,
) -> Pass:
    """Give the entries in a ring behind each event; `ring`: slots, mended, the first slot."""

def run(step: Pass, block: Array, first: int, backward: bool = False, /) -> None:
    """Take a block, whose first record has this index. Ctrl-C waits for its end."""

def result(step: Pass, /) -> Any:
    """The findings so far."""

def end(step: Pass, /) -> Any:
    """All findings, with those that need the end of the recording."""
