"""The coalesced ring: capacity, wrap, publishing, batches."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from coalesced.hv import abi, core, ring
from helpers.hv_oracle import Entry
from helpers.hv_pair import indices, segment, set_indices
from helpers.ring_memory import entries_of, memory, put_slot, size_for

# --- size and capacity ---


@pytest.mark.parametrize(("pages", "slots"), [(1, 170), (2, 341), (16, 2730)])
def test_a_ring_has_one_usable_slot_less_than_fit(pages: int, slots: int) -> None:
    """170 entries fit in a page with the header, 169 of them can be used."""
    with memory(ring.size_of(pages)) as mapping:
        producer = ring.Producer(mapping, 0, ring.size_of(pages))
        consumer = ring.Consumer(mapping, 0, ring.size_of(pages))
        assert producer.slots == consumer.core.slots == abi.ring_slots(pages) == slots
        taken = 0
        while producer.append(taken, 1, taken):
            taken += 1
        assert taken == ring.usable(pages) == slots - 1


@pytest.mark.slow
@pytest.mark.parametrize("pages", [1, 2, 16])
def test_a_ring_fills_and_empties_from_every_start_index(pages: int) -> None:
    """Full, shown, read back in order and empty again, wherever the indices stand."""
    size, slots = ring.size_of(pages), abi.ring_slots(pages)
    usable = slots - 1
    serial = np.arange(usable, dtype=np.uint64)
    run, body = segment("run page", abi.RUN_PAGES * abi.PAGE_SIZE), segment("ring", size)
    mapping = core.Mapping([run, body])
    os.close(run[1])
    os.close(body[1])
    for start in range(slots):
        set_indices(mapping, run[2], start, start)
        vcpu = core.Vcpu(mapping, core.VmRing(mapping, run[2], size), -1, -1, 0, lambda: None)
        vcpu.set_zones(0, np.array([[0x1000, 0xFFFFFF]], dtype=np.uint64))
        vcpu.store_many(serial + 0x1000 + start, 1, serial)
        assert indices(mapping, run[2]) == (start, (start + usable) % slots)
        assert not ring.Producer(mapping, run[2], size).append(0, 1, 0), start
        consumer = ring.Consumer(mapping, run[2], size)
        batch = consumer.peek()
        assert np.array_equal(batch["phys_addr"], serial + 0x1000 + start), start
        assert np.array_equal(batch["data"], serial & 0xFF), start
        consumer.commit(len(batch))
        first, last = indices(mapping, run[2])
        assert first == last


@pytest.mark.parametrize("pages", [1, 2])
def test_the_producer_alone_goes_round_from_every_start_index(pages: int) -> None:
    """One entry appended, shown, read and given back at each slot in turn, twice round."""
    size, slots = ring.size_of(pages), abi.ring_slots(pages)
    with memory(size) as mapping:
        producer, consumer = ring.Producer(mapping, 0, size), ring.Consumer(mapping, 0, size)
        for n in range(2 * slots):
            assert producer.append(n, 8, n << 32 | n, pio=False)
            producer.publish()
            assert entries_of(consumer.peek()) == [Entry(n, 8, 0, n << 32 | n)]
            consumer.commit(1)
            assert indices(mapping) == ((n + 1) % slots,) * 2


def test_full_is_one_before_first_wherever_first_stands() -> None:
    """An append fails exactly when (last + 1) mod slots is first."""
    slots = 7
    with memory(size_for(slots)) as mapping:
        for first in range(slots):
            for last in range(slots):
                set_indices(mapping, 0, first, last)
                producer = ring.Producer(mapping, 0, size_for(slots))
                assert producer.append(1, 1, 1) == ((last + 1) % slots != first), (first, last)


def test_a_full_ring_is_left_as_it_was() -> None:
    """The refused entry overwrites nothing, and one committed slot makes room for one."""
    slots = 4
    with memory(size_for(slots)) as mapping:
        producer = ring.Producer(mapping, 0, size_for(slots))
        consumer = ring.Consumer(mapping, 0, size_for(slots))
        for n in range(3):
            assert producer.append(n, 1, n)
        producer.publish()
        before = mapping.read(0, size_for(slots))
        assert not producer.append(99, 1, 99)
        producer.publish()
        assert mapping.read(0, size_for(slots)) == before
        assert len(consumer.peek()) == 3
        consumer.commit(1)
        assert producer.append(3, 1, 3)
        assert not producer.append(4, 1, 4)


def test_pages_outside_1_to_4096_are_refused() -> None:
    """The message names the limits and the value."""
    for pages in (1, 4096):
        ring.check_pages(pages)
    for pages in (0, -1, 4097):
        with pytest.raises(ValueError, match=f"1 to 4096 pages, got {pages}"):
            ring.check_pages(pages)


@pytest.mark.parametrize(
    ("offset", "size"), [(0, 55), (0, 0), (0, -1), (0, 4097), (-8, 4096), (4, 4000), (4096, 56)]
)
def test_a_ring_must_lie_in_its_mapping(offset: int, size: int) -> None:
    """Neither end takes a ring that is too small, misaligned or outside."""
    with memory(abi.PAGE_SIZE) as mapping:
        with pytest.raises(ValueError, match=r"ring of at least|does not lie in a mapping"):
            core.Producer(mapping, offset, size)
        with pytest.raises(ValueError, match=r"ring of at least|does not lie in a mapping"):
            core.Consumer(mapping, offset, size)


# --- the entry's bytes ---


def test_an_entry_has_the_layout_of_kvm() -> None:
    """phys_addr, len, pio and data, little endian, right behind the two indices."""
    with memory(abi.PAGE_SIZE) as mapping:
        producer = ring.Producer(mapping, 0, abi.PAGE_SIZE)
        producer.append(0x1122334455667788, 4, 0xAABBCCDD, pio=False)
        producer.append(0xCF8, 2, 0x1234, pio=True)
        producer.publish()
        assert mapping.read(0, 8) == struct.pack("<II", 0, 2)
        assert mapping.read(8, 24) == struct.pack("<QIIQ", 0x1122334455667788, 4, 0, 0xAABBCCDD)
        assert mapping.read(32, 24) == struct.pack("<QIIQ", 0xCF8, 2, 1, 0x1234)


@pytest.mark.parametrize("size", range(1, 9))
def test_data_is_cut_to_len(size: int) -> None:
    """Bytes from len on mean nothing in the ring and read as 0."""
    with memory(abi.PAGE_SIZE) as mapping:
        consumer = ring.Consumer(mapping, 0, abi.PAGE_SIZE)
        put_slot(mapping, 0, (0x1000, size, 0, (1 << 64) - 1))
        set_indices(mapping, 0, 0, 1)
        assert entries_of(consumer.peek()) == [Entry(0x1000, size, 0, (1 << 8 * size) - 1)]


@pytest.mark.parametrize("size", [0, 9, (1 << 32) - 1])
def test_the_producer_refuses_a_len_outside_1_to_8(size: int) -> None:
    """The message names the value."""
    with memory(abi.PAGE_SIZE) as mapping:
        producer = ring.Producer(mapping, 0, abi.PAGE_SIZE)
        with pytest.raises(ValueError, match=f"len of 1 to 8, got {size}"):
            producer.append(0, size, 0)


def test_the_producer_refuses_numbers_that_do_not_fit() -> None:
    """An address or data of more than 64 bits, or below 0, is no entry."""
    with memory(abi.PAGE_SIZE) as mapping:
        producer = ring.Producer(mapping, 0, abi.PAGE_SIZE)
        for address, data in ((1 << 64, 0), (-1, 0), (0, 1 << 64), (0, -1)):
            with pytest.raises(OverflowError):
                producer.append(address, 1, data)
        producer.publish()
        assert indices(mapping) == (0, 0)


# --- publishing, peeking, committing ---


def test_an_entry_is_seen_when_it_was_published_and_not_before() -> None:
    """Appending alone moves nothing that the consumer looks at."""
    with memory(abi.PAGE_SIZE) as mapping:
        producer = ring.Producer(mapping, 0, abi.PAGE_SIZE)
        consumer = ring.Consumer(mapping, 0, abi.PAGE_SIZE)
        producer.append(1, 1, 1)
        producer.append(2, 1, 2)
        assert (len(consumer.peek()), consumer.pending()) == (0, 0)
        producer.publish()
        assert (len(consumer.peek()), consumer.pending()) == (2, 2)
        producer.append(3, 1, 3)
        assert (len(consumer.peek()), consumer.pending()) == (2, 2)


@contextmanager
def five_entries() -> Iterator[tuple[core.Mapping, ring.Consumer]]:
    """A ring's memory, in which five entries are published, and its consumer."""
    with memory(abi.PAGE_SIZE) as mapping:
        producer = ring.Producer(mapping, 0, abi.PAGE_SIZE)
        consumer = ring.Consumer(mapping, 0, abi.PAGE_SIZE)
        for n in range(5):
            producer.append(n, 1, n)
        producer.publish()
        yield mapping, consumer


def test_peeked_entries_stay_until_they_are_committed() -> None:
    """A peek gives the same entries again; a partial commit takes the oldest only."""
    with five_entries() as (mapping, consumer):
        everything = entries_of(consumer.peek())
        assert entries_of(consumer.peek()) == everything
        consumer.commit(2)
        assert indices(mapping) == (2, 5)
        consumer.commit(0)
        assert entries_of(consumer.peek()) == everything[2:]
        consumer.commit(3)
        assert len(consumer.peek()) == 0


def test_a_peek_copies_no_more_than_asked_for() -> None:
    with five_entries() as (_, consumer):
        everything = entries_of(consumer.peek())
        assert entries_of(consumer.peek(2)) == everything[:2]
        with pytest.raises(ValueError, match="cannot commit 3 entries: 2 were peeked"):
            consumer.commit(3)
        assert entries_of(consumer.peek(1 << 40)) == everything
        assert len(consumer.peek(0)) == 0


def test_no_more_is_committed_than_was_peeked() -> None:
    """A commit of too many, of none peeked, or below 0 is an error and moves nothing."""
    with memory(abi.PAGE_SIZE) as mapping:
        producer = ring.Producer(mapping, 0, abi.PAGE_SIZE)
        consumer = ring.Consumer(mapping, 0, abi.PAGE_SIZE)
        producer.append(1, 1, 1)
        producer.publish()
        with pytest.raises(ValueError, match="cannot commit 1 entries: 0 were peeked"):
            consumer.commit(1)
        consumer.peek()
        with pytest.raises(ValueError, match="cannot commit 2 entries: 1 were peeked"):
            consumer.commit(2)
        with pytest.raises(OverflowError):
            consumer.commit(-1)
        assert indices(mapping) == (0, 1)
        consumer.commit(1)
        with pytest.raises(ValueError, match="cannot commit 1 entries: 0 were peeked"):
            consumer.commit(1)


def test_a_batch_is_rebased() -> None:
    """Addresses less a number, modulo 2**64, and values cut to their size, batch for batch."""
    with memory(abi.PAGE_SIZE) as mapping:
        producer = ring.Producer(mapping, 0, abi.PAGE_SIZE)
        consumer = ring.Consumer(mapping, 0, abi.PAGE_SIZE)
        consumer.core.rebase(0, 0, 0)
        for count, base in ((3, 0x1000), (169, 0x1002), (169, 0), (1, 2**64 - 1)):
            for n in range(count):
                producer.append(0x1000 + n, 1 + n % 8, (1 << 64) - 1 - n)
            producer.publish()
            batch = consumer.peek().copy()
            half = count // 2
            consumer.core.rebase(base, 0, half)
            consumer.core.rebase(base, half, count)
            offsets, values = consumer.offsets[:count], consumer.data[:count]
            assert offsets.tolist() == [(0x1000 + n - base) % 2**64 for n in range(count)]
            assert values.tolist() == batch["data"].tolist()
            assert not offsets.flags.writeable
            assert offsets.flags.c_contiguous
            assert consumer.sizes[:count].tolist() == batch["len"].tolist()
            for wrong in ((-1, 0, 1), (0, -1, 1), (0, 0, -1)):
                with pytest.raises(OverflowError):
                    consumer.core.rebase(*wrong)
            expected = f"cannot rebase {count + 1} entries: {count} were peeked"
            with pytest.raises(ValueError, match=expected):
                consumer.core.rebase(0, 0, count + 1)
            consumer.commit(count)


def test_a_new_end_takes_up_where_the_indices_stand() -> None:
    """Both ends may be replaced in the middle of a ring's life."""
    with memory(abi.PAGE_SIZE) as mapping:
        set_indices(mapping, 0, 168, 168)
        producer = core.Producer(mapping, 0, abi.PAGE_SIZE)
        for n in range(3):
            producer.append(n, 1, n)
        producer.publish()
        producer = core.Producer(mapping, 0, abi.PAGE_SIZE)
        producer.append(3, 1, 3)
        producer.publish()
        batch = ring.Consumer(mapping, 0, abi.PAGE_SIZE).peek()
        assert batch["phys_addr"].tolist() == [0, 1, 2, 3]
        assert indices(mapping) == (168, 2)
