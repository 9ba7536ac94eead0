"""Both ends of the ring against a model that is written plainly."""

from __future__ import annotations

import os

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from coalesced.hv import abi, core, ring
from helpers.hv_oracle import Entry, RingOracle
from helpers.hv_pair import indices, segment, set_indices
from helpers.ring_memory import ENTRY, HEADER, entries_of, size_for

ENTRIES = st.builds(
    Entry,
    st.integers(0, 0xFFF8),
    st.integers(1, 8),
    st.integers(0, 1),
    st.integers(0, 2**64 - 1),
)


class RingAgainstOracle(RuleBasedStateMachine):
    """Any order of calls on both ends does what the oracle does, and leaves its indices."""

    @initialize(
        size=st.one_of(
            st.sampled_from([ring.size_of(pages) for pages in (1, 2, 16)]),
            st.integers(2, 9).map(size_for),
        ),
        start=st.integers(0, 1 << 16),
    )
    def begin(self, size: int, start: int) -> None:
        """A ring of a whole number of pages, or a tiny one that is full soon."""
        self.part = segment("ring", -(-size // abi.PAGE_SIZE) * abi.PAGE_SIZE)
        self.mapping = core.Mapping([self.part])
        slots = (size - HEADER) // ENTRY
        self.oracle = RingOracle(slots, start % slots)
        set_indices(self.mapping, 0, start % slots, start % slots)
        self.size = size
        self.producer = ring.Producer(self.mapping, 0, size)
        self.consumer = ring.Consumer(self.mapping, 0, size)
        self.peeked = 0

    @rule(entry=ENTRIES)
    def append(self, entry: Entry) -> None:
        """One entry."""
        got = self.producer.append(entry.phys_addr, entry.len, entry.data, bool(entry.pio))
        assert got == self.oracle.append(entry)

    @rule(entry=ENTRIES, count=st.integers(1, 4000))
    def append_many(self, entry: Entry, count: int) -> None:
        """Up to more than fits, so that large rings get full, too."""
        for n in range(count):
            numbered = entry._replace(data=n)
            got = self.producer.append(entry.phys_addr, entry.len, n, bool(entry.pio))
            assert got == self.oracle.append(numbered)
            if not got:
                break

    @rule()
    def publish(self) -> None:
        """Show what was appended."""
        self.producer.publish()
        self.oracle.publish()

    @rule()
    def peek(self) -> None:
        """All that is shown."""
        batch = entries_of(self.consumer.peek())
        assert batch == self.oracle.peek()
        self.peeked = len(batch)

    @precondition(lambda self: self.peeked > 0)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        """Some of what was peeked."""
        count = data.draw(st.integers(0, self.peeked))
        self.consumer.commit(count)
        self.oracle.commit(count)
        self.peeked -= count

    @rule()
    def replace_the_consumer(self) -> None:
        """Another consumer takes over where the first one stopped."""
        self.consumer = ring.Consumer(self.mapping, 0, self.size)
        self.peeked = 0

    @invariant()
    def same_indices(self) -> None:
        """The words in memory are the oracle's."""
        if hasattr(self, "oracle"):
            assert indices(self.mapping) == (self.oracle.first, self.oracle.last)
            assert self.consumer.pending() == self.oracle.pending()

    def teardown(self) -> None:
        """Give the segment back."""
        if hasattr(self, "part"):
            os.close(self.part[1])


RingAgainstOracle.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestRingAgainstOracle = RingAgainstOracle.TestCase
