"""A peer that breaks the rules of the ring: named, and never followed."""

from __future__ import annotations

import pytest

from coalesced.hv import abi, core, ring
from coalesced.hv.errors import ProtocolError
from helpers.hv_oracle import Entry
from helpers.hv_pair import indices, set_indices
from helpers.ring_memory import entries_of, memory, put_slot, size_for


@pytest.mark.parametrize("value", [170, 171, 1 << 31, (1 << 32) - 1])
def test_an_index_that_is_no_slot_is_reported(value: int) -> None:
    """Of either index, at the start and later, with the value that was found."""
    with memory(abi.PAGE_SIZE) as mapping:
        consumer = ring.Consumer(mapping, 0, abi.PAGE_SIZE)
        set_indices(mapping, 0, 0, value)
        with pytest.raises(ProtocolError, match=f"last is {value}, expected a slot below 170"):
            consumer.peek()
        with pytest.raises(ProtocolError, match=f"last is {value}, expected a slot below 170"):
            consumer.pending()
        with pytest.raises(ProtocolError, match=f"last is {value}, expected a slot below 170"):
            core.Producer(mapping, 0, abi.PAGE_SIZE)
        set_indices(mapping, 0, value, 0)
        with pytest.raises(ProtocolError, match=f"first is {value}, expected a slot below 170"):
            core.Consumer(mapping, 0, abi.PAGE_SIZE)
        with pytest.raises(ProtocolError, match=f"first is {value}, expected a slot below 170"):
            core.Producer(mapping, 0, abi.PAGE_SIZE)


def test_a_first_that_is_no_slot_is_reported_when_the_ring_seems_full() -> None:
    """The producer looks at `first` only then, and trusts its own copy until."""
    slots = 4
    with memory(size_for(slots)) as mapping:
        producer = core.Producer(mapping, 0, size_for(slots))
        set_indices(mapping, 0, 9, 0)
        for n in range(3):
            assert producer.append(n, 1, n)
        with pytest.raises(ProtocolError, match="first is 9, expected a slot below 4"):
            producer.append(3, 1, 3)


def test_a_first_past_what_was_published_is_reported() -> None:
    """A consumer cannot have read what it was never shown."""
    slots = 6
    for published in range(slots - 1):
        for first in range(slots):
            with memory(size_for(slots)) as mapping:
                producer = core.Producer(mapping, 0, size_for(slots))
                for n in range(published):
                    producer.append(n, 1, n)
                producer.publish()
                for n in range(published, slots - 1):
                    producer.append(n, 1, n)
                mapping.write(0, first.to_bytes(4, "little"))
                if first <= published:
                    assert producer.append(9, 1, 9) == (first > 0)
                else:
                    with pytest.raises(
                        ProtocolError, match=f"first is {first}, .*can have reached"
                    ):
                        producer.append(9, 1, 9)


def test_a_last_that_goes_backwards_is_reported() -> None:
    """Published entries cannot be taken back, also across the wrap."""
    slots = 6
    for start in range(slots):
        with memory(size_for(slots)) as mapping:
            set_indices(mapping, 0, start, start)
            producer = core.Producer(mapping, 0, size_for(slots))
            consumer = ring.Consumer(mapping, 0, size_for(slots))
            for n in range(3):
                producer.append(n, 1, n)
            producer.publish()
            assert len(consumer.peek()) == 3
            for back in (1, 2, 3):
                last = (start + 3 - back) % slots
                mapping.write(4, last.to_bytes(4, "little"))
                with pytest.raises(ProtocolError, match=f"last is {last}, .*can have reached"):
                    consumer.peek()
            mapping.write(4, ((start + 3) % slots).to_bytes(4, "little"))
            assert len(consumer.peek()) == 3


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ((0, 0, 0, 0), "slot {slot} has len 0, expected 1 to 8"),
        ((0, 9, 0, 0), "slot {slot} has len 9, expected 1 to 8"),
        ((0, 0xFFFFFFFF, 0, 0), "slot {slot} has len 4294967295, expected 1 to 8"),
        ((0, 1, 2, 0), "slot {slot} has pio 2, expected 0 or 1"),
        ((0, 1, 0xFFFFFFFF, 0), "slot {slot} has pio 4294967295, expected 0 or 1"),
        ((2**64 - 1, 2, 0, 0), "slot {slot} has address 0xffffffffffffffff"),
        ((2**64 - 7, 8, 0, 0), "slot {slot} has address 0xfffffffffffffff9"),
        ((0x10000, 1, 1, 0), "slot {slot} has address 0x10000"),
        ((0xFFFD, 4, 1, 0), "slot {slot} has address 0xfffd"),
    ],
)
def test_an_entry_that_breaks_the_rules_is_named(
    entry: tuple[int, int, int, int], said: str
) -> None:
    """Valid entries before it, of its len and pio where it can be, come first, in a batch of their
    own; then the error names both."""
    with memory(abi.PAGE_SIZE) as mapping:
        set_indices(mapping, 0, 168, 168)
        consumer = ring.Consumer(mapping, 0, abi.PAGE_SIZE)
        _, length, pio, _ = entry
        alike = (length, pio) if 1 <= length <= 8 and pio <= 1 else (1, 0)
        good = [(0x1000 + n, *alike, n) for n in range(3)]
        for n, valid in enumerate([*good, (0, 0, 0, 0), good[0]]):
            put_slot(mapping, (168 + n) % 170, valid)
        put_slot(mapping, 1, entry)
        set_indices(mapping, 0, 168, 3)
        assert entries_of(consumer.peek()) == [Entry(*valid) for valid in good]
        assert entries_of(consumer.peek()) == [Entry(*valid) for valid in good]
        consumer.commit(3)
        for _ in range(2):
            with pytest.raises(ProtocolError, match=said.format(slot=1)):
                consumer.peek()
        with pytest.raises(ValueError, match="0 were peeked"):
            consumer.commit(1)
        assert consumer.pending() == 2


@pytest.mark.parametrize(
    "entry",
    [
        (2**64 - 8, 8, 0, 0),
        (2**64 - 1, 1, 0, 0),
        (0xFFFF, 1, 1, 0),
        (0xFFFC, 4, 1, 0),
        (0, 8, 0, 2**64 - 1),
    ],
)
def test_an_entry_up_to_the_end_of_its_space_is_fine(entry: tuple[int, int, int, int]) -> None:
    """The last byte may be the last address."""
    with memory(abi.PAGE_SIZE) as mapping:
        consumer = ring.Consumer(mapping, 0, abi.PAGE_SIZE)
        put_slot(mapping, 0, entry)
        set_indices(mapping, 0, 0, 1)
        assert entries_of(consumer.peek()) == [Entry(*entry)]


def test_what_the_consumer_wrote_to_first_is_not_read_back() -> None:
    """A producer that overwrites `first` confuses only itself."""
    with memory(abi.PAGE_SIZE) as mapping:
        consumer = ring.Consumer(mapping, 0, abi.PAGE_SIZE)
        for n in range(4):
            put_slot(mapping, n, (n, 1, 0, n))
        set_indices(mapping, 0, 77, 4)
        assert [e.phys_addr for e in entries_of(consumer.peek())] == [0, 1, 2, 3]
        consumer.commit(2)
        assert indices(mapping) == (2, 4)
