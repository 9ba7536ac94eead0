"""The exits of a guest on KVM, by the kernel's tracepoints of accesses and of exits."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from coalesced.tools.boot.exits import HALT, RING_FULL, Log, Place, port_name
from coalesced.tools.errors import BadInput
from coalesced.tools.traces import trace
from coalesced.tools.traces.events import EXITS, Events, Kind, Mask
from coalesced.tools.traces.formats.kvm import FORMAT
from coalesced.tools.traces.reader import Reader

_CONFIG_ADDRESS: Final = 0xCF8
_NONE: Final = 255  # no event: before the first one of a thread, and behind the last


def events_of(path: Path) -> Events:
    """The events of a file of ftrace or `perf script`. Raises BadInput if it is none, or cut."""
    found = trace.read_events(path)
    if found.reader.format is not FORMAT:
        got = found.reader.format.name if found.reader.format else "none"
        raise BadInput(f"--against {path}: expected {FORMAT.name}, got {got}")
    if not np.isin(found.events.kind, EXITS).any():
        raise BadInput(f"--against {path}: expected lines of kvm_userspace_exit, got none")
    check_complete(found.reader, f"--against {path}")
    return found.events


def check_complete(reader: Reader, what: str) -> None:
    """Raise BadInput if the recorder lost events."""
    if reader.counts[Kind.LOST]:
        raise BadInput(f"{what}: the kernel's buffer was too small, and events were lost")


def exiting(events: Events) -> Mask:
    """Per event: whether it is an access or a halt for which the guest left.

    A write is traced before its exit, a read of a port behind it, one of memory at either end. So
    one exit between an out and an in is the in's.
    """
    order = np.argsort(events.thread, kind="stable")
    kind, thread = events.kind[order], events.thread[order]

    def near(apart: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
        """The kind of the event that is `apart` events later in the same thread."""
        found = np.full(len(kind), _NONE, np.uint8)
        here, there = (slice(None, -apart), slice(apart, None))
        if apart < 0:
            here, there = slice(-apart, None), slice(None, apart)
        found[here] = np.where(thread[here] == thread[there], kind[there], _NONE)
        return found

    exits = (kind == Kind.STORE) & (near(1) == Kind.EXIT_MMIO)
    exits |= (kind == Kind.OUT) & (near(1) == Kind.EXIT_IO) & (near(2) != Kind.IN)
    exits |= (kind == Kind.IN) & (near(-1) == Kind.EXIT_IO)
    exits |= (kind == Kind.LOAD_BEGINS) & (near(1) == Kind.EXIT_MMIO)
    exits |= kind == Kind.EXIT_HLT
    found = np.zeros(len(kind), bool)
    found[order] = exits
    return found


def log_of(events: Events, name: Place) -> Log:
    """The log of events in the order of time.

    A write that exits is held to have found the ring full where others to its region are queued.
    """
    exits = exiting(events)
    log = Log(name)
    queued_in = _regions_queued(events, exits, name)
    queued = config_address = 0
    columns = (events.kind, events.address, events.value, events.count, exits)
    for kind, address, value, count, leaves in zip(*(c.tolist() for c in columns), strict=True):
        if kind == Kind.OUT and address == _CONFIG_ADDRESS:
            config_address = value
        if not leaves:
            queued += kind in (Kind.STORE, Kind.OUT)
        elif kind == Kind.EXIT_HLT:
            log.add(HALT, "", None, queued)
        elif kind in (Kind.IN, Kind.OUT):
            written = value if kind == Kind.OUT else None
            log.add("pio", port_name(address, config_address), written, queued, count)
        elif kind == Kind.LOAD_BEGINS:
            log.add("load", name(address), None, queued)
        else:
            place = name(address)
            log.add(RING_FULL if place in queued_in else "no_zone", place, value, queued)
    return log


def _regions_queued(events: Events, exits: Mask, name: Place) -> set[str]:
    """The places in memory some of whose writes did not exit."""
    addresses = np.unique(events.address[(events.kind == Kind.STORE) & ~exits])
    return {name(address) for address in addresses.tolist()}
