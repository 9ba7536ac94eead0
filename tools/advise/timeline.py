"""The events of a recording in the order of each thread: exits, drains, and what follows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from coalesced.tools.traces.events import EXITS, NO_TIME, Events, Kind, Mask, Positions


@dataclass(frozen=True)
class Timeline:
    """The events, and what is known from their order.

    Without lines of exits in the recording, every access counts as an exit.
    """

    events: Events

    @cached_property
    def has_exits(self) -> bool:
        """Does the recording tell exits?"""
        return bool(np.isin(self.events.kind, EXITS).any())

    @cached_property
    def is_exit(self) -> Mask:
        """Per event: is it the line of an exit?"""
        return np.isin(self.events.kind, EXITS)

    @cached_property
    def next_of_thread(self) -> Positions:
        """Per event: the next one of its thread, -1 if there is none."""
        return _next_of(self.events, np.ones(len(self.events), dtype=bool))

    @cached_property
    def next_access(self) -> Positions:
        """Per event: the next access that its thread begins, -1 if there is none."""
        return _next_of(self.events, self.begins)

    @cached_property
    def begins(self) -> Mask:
        """Per event: does an access begin here? A load of KVM has a line before its exit, too."""
        kind = self.events.kind
        ended = np.isin(kind, (Kind.LOAD,)) & self._was_begun
        return np.asarray((self.events.is_access | (kind == Kind.LOAD_BEGINS)) & ~ended)

    @cached_property
    def _was_begun(self) -> Mask:
        begun = self.events.kind == Kind.LOAD_BEGINS
        found = np.zeros(len(begun), dtype=bool)
        # The exit stands between the two lines of a load.
        after = self.next_of_thread[begun]
        found[after[after >= 0]] = True
        second = self.next_of_thread[after[after >= 0]]
        found[second[second >= 0]] = True
        return found

    @cached_property
    def exits(self) -> Mask:
        """Per event: is it a write that exits?"""
        events, after = self.events, self.next_of_thread
        if not self.has_exits:
            return events.is_write
        follows = events.kind[np.maximum(after, 0)]
        store = (events.kind == Kind.STORE) & (follows == Kind.EXIT_MMIO)
        # The exit of an in stands before its line: one exit between an out and an in is the in's.
        second = events.kind[np.maximum(after[np.maximum(after, 0)], 0)]
        out = (events.kind == Kind.OUT) & (follows == Kind.EXIT_IO) & (second != Kind.IN)
        return np.asarray((after >= 0) & (store | out))

    @cached_property
    def drains(self) -> Mask:
        """Per event: is the ring drained here, by an exit that no single write has caused?"""
        events = self.events
        if not self.has_exits:
            return np.asarray(self.begins & ~(events.is_write & (events.count == 1)))
        of_writes = np.zeros(len(events), dtype=bool)
        single = self.exits & (events.count == 1)
        of_writes[self.next_of_thread[single]] = True
        return np.asarray(self.is_exit & ~of_writes)

    @property
    def all_exits(self) -> Mask:
        """Per event: is it an exit as recorded?"""
        return self.is_exit if self.has_exits else self.begins

    @cached_property
    def total_exits(self) -> int:
        """Exits as recorded."""
        return int(self.all_exits.sum())

    @cached_property
    def waits(self) -> Positions:
        """Per event: nanoseconds to the next drain, or to the end; -1 without times."""
        time = self.events.time
        after = following(self.drains)
        known = (time != NO_TIME) & (time[np.minimum(after, len(time) - 1)] != NO_TIME)
        wait = np.where(known, time[np.minimum(after, len(time) - 1)] - time, NO_TIME)
        never = (after == len(time)) & (time != NO_TIME)
        # Until the end of the recording at least.
        return np.where(never, max(int(time.max(initial=0)), 0) - time, np.maximum(wait, NO_TIME))


def following(marks: Mask) -> Positions:
    """Per event: the position of the first mark behind it, the number of events if none is."""
    at = np.where(marks, np.arange(len(marks)), len(marks))
    after = np.append(at[1:], len(marks))
    return np.asarray(np.minimum.accumulate(after[::-1])[::-1])


def _next_of(events: Events, wanted: Mask) -> Positions:
    """Per event: the next wanted one of its thread."""
    result = np.full(len(events), -1, np.intp)
    for thread in np.unique(events.thread).tolist():
        own = np.flatnonzero(events.thread == thread)
        after = following(wanted[own])
        result[own] = np.append(own, -1)[after]
    return result
