"""Exits, and other events that end a run of the guest."""

from __future__ import annotations

from enum import Enum

Exit = tuple[int, int, int, bool, int]
"""(exit_reason, address or port, size in bytes, is_write, value): `hv.abi.KVM_EXIT_*`.

A plain tuple, which the interpreter takes apart 0.1 µs faster than a named one.
"""


class Event(Enum):
    """The event that ended a wait for the guest, numbered as in the core."""

    TIMED_OUT = 0
    EXITED = 1
    RING_FILLED = 2
    """Entries wait in the ring, and the guest runs on."""
    READABLE = 3
    """The watched descriptor is readable, and the guest runs on."""


Outcome = Exit | Event
"""The result of `run`: the exit, or the event that came before one."""
