"""`Ring` with its two ends: what each gives, waits for and refuses, within one process."""

from __future__ import annotations

import asyncio
import math
import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from coalesced import (
    GeometryError,
    HostError,
    ProtocolError,
    Ring,
    RingBusy,
    RingClosed,
    RingConsumer,
    RingFull,
    RingProducer,
)
from coalesced.hv import abi

LIMIT = 60.0  # seconds; nothing here takes a tenth of it unless something hangs
Ends = tuple[RingProducer, RingConsumer]


@pytest.fixture
def ends() -> Iterator[Ends]:
    with Ring() as ring, ring.producer() as producer, ring.consumer() as consumer:
        yield producer, consumer


@pytest.mark.parametrize(("entries", "capacity"), [(1, 169), (169, 169), (170, 340), (1000, 1022)])
def test_a_ring_holds_at_least_what_was_asked_for(entries: int, capacity: int) -> None:
    with Ring(entries) as ring, ring.producer() as producer:
        assert ring.capacity == capacity
        with pytest.raises(RingFull, match=f"{capacity} entries") as caught:
            producer.append_many(np.arange(capacity + 5), 8, 0, timeout=0)
        assert caught.value.appended == capacity


@pytest.mark.parametrize("entries", [0, -1, (1 << 24) + 1])
def test_a_ring_of_no_such_size_is_refused(entries: int) -> None:
    with pytest.raises(ValueError, match=f"expected a ring of 1 to .* got {entries}"):
        Ring(entries)


def test_entries_arrive_as_they_were_appended(ends: Ends) -> None:
    producer, consumer = ends
    producer.append(0x60, 1, 0x1FF, pio=True)
    producer.append_many([1 << 63, 2], [8, 4], [(1 << 64) - 1, 7])
    assert consumer.take().tolist() == [
        (0x60, 1, 1, 0xFF),
        (1 << 63, 8, 0, (1 << 64) - 1),
        (2, 4, 0, 7),
    ]


def test_one_size_and_one_value_go_for_all_addresses(ends: Ends) -> None:
    producer, consumer = ends
    producer.append_many(range(3), 2, 9)
    assert consumer.take().tolist() == [(n, 2, 0, 9) for n in range(3)]
    producer.append_many([], 2, [])
    assert len(consumer.take(timeout=0)) == 0


def test_an_invalid_entry_keeps_all_of_its_call_out(ends: Ends) -> None:
    producer, consumer = ends
    for size, address, pio, wrong in (
        (9, 0, False, "entry 2: expected a len of 1 to 8, got 9"),
        (0, 0, False, "entry 2: expected a len of 1 to 8, got 0"),
        (2, 0xFFFF, True, "entry 2: its last byte passes the end"),
    ):
        with pytest.raises(ValueError, match=wrong):
            producer.append_many([0, 1, address], [1, 1, size], 0, pio=pio)
    entries = np.zeros(1, abi.KVM_COALESCED_MMIO)
    entries["len"], entries["pio"] = 1, 2
    with pytest.raises(ValueError, match="entry 0: expected a pio of 0 or 1, got 2"):
        producer.append_entries(entries)
    assert len(consumer.take(timeout=0)) == 0


@pytest.mark.parametrize(
    ("numbers", "error", "wrong"),
    [
        ([1.5], TypeError, "expected whole numbers, got float"),
        (np.array([1.0, 2.0]), TypeError, "expected whole numbers, got float"),
        (np.array([1, 2.0], object), TypeError, "expected whole numbers, got float"),
        (["3"], TypeError, "expected whole numbers, got str"),
        ([None], TypeError, "expected whole numbers, got NoneType"),
        ([3, -1], OverflowError, "got -1"),
        ([1 << 63, -1], OverflowError, "got -1"),
        (np.array([1, -2], np.int8), OverflowError, "got -2"),
        ([1 << 64], OverflowError, f"got {1 << 64}"),
    ],
)
@pytest.mark.parametrize("column", ["addresses", "sizes", "values"])
def test_a_number_that_does_not_fit_is_refused(
    ends: Ends, column: str, numbers: Any, error: type[Exception], wrong: str
) -> None:
    producer, consumer = ends
    columns = {"addresses": [1], "sizes": 8, "values": 0, column: numbers}
    with pytest.raises(error, match=f"{column}: .*{wrong}"):
        producer.append_many(**columns)
    assert len(consumer.take(timeout=0)) == 0


def test_a_size_beyond_32_bits_is_refused(ends: Ends) -> None:
    with pytest.raises(OverflowError, match=f"sizes: .*got {(1 << 32) + 4}"):
        ends[0].append_many([1], np.array([(1 << 32) + 4], np.uint64), 0)


def test_whole_numbers_of_any_type_are_taken(ends: Ends) -> None:
    producer, consumer = ends
    largest = (1 << 64) - 1
    values: list[Any] = [7, np.int8(7), np.array([7], np.int16), [largest], [largest, 0], True, [1]]
    for value in values:
        producer.append_many([5] * np.size(value), np.uint8(8), value)
    taken = consumer.take()["data"].tolist()
    assert taken == [7, 7, 7, largest, largest, 0, 1, 1]


@pytest.mark.parametrize(
    ("address", "size", "pio", "wrong"),
    [
        (0, 0, False, "expected a len of 1 to 8, got 0"),
        ((1 << 64) - 1, 2, False, "the last byte passes the end"),
        (0xFFFD, 4, True, "the last byte passes the end"),
    ],
)
def test_an_invalid_single_entry_does_not_spoil_the_ring(
    ends: Ends, address: int, size: int, pio: bool, wrong: str
) -> None:
    producer, consumer = ends
    with pytest.raises(ValueError, match=wrong):
        producer.append(address, size, 0, pio=pio)
    last = (0xFFFC if pio else (1 << 64) - 4, 4, int(pio), 7)
    producer.append(last[0], 4, 7, pio=pio)
    assert consumer.take().tolist() == [last]


def test_take_gives_what_is_there_and_a_copy_of_it(ends: Ends) -> None:
    producer, consumer = ends
    producer.append_many(range(5), 1, 0)
    first = consumer.take(most=2)
    producer.append_many(range(5, 8), 1, 0)
    assert consumer.take()["phys_addr"].tolist() == [2, 3, 4, 5, 6, 7]
    assert first["phys_addr"].tolist() == [0, 1]


def test_what_was_peeked_stays_until_it_is_committed(ends: Ends) -> None:
    producer, consumer = ends
    producer.append_many(range(5), 1, 0)
    assert len(consumer.peek()) == 5
    consumer.commit(2)
    assert consumer.peek()["phys_addr"].tolist() == [2, 3, 4]
    with pytest.raises(ValueError, match="cannot commit 4 entries: 3 were peeked"):
        consumer.commit(4)


def test_a_timeout_of_0_does_not_wait(ends: Ends) -> None:
    producer, consumer = ends
    assert producer.wait(0)
    assert not consumer.wait(0)
    assert len(consumer.take(timeout=0)) == 0
    producer.append_many(range(169), 1, 0)
    assert not producer.wait(0)
    with pytest.raises(RingFull, match="0 entries"):
        producer.append(0, 1, 0, timeout=0)


def test_a_timeout_ends_a_wait_for_either_side(ends: Ends) -> None:
    producer, consumer = ends
    assert len(consumer.take(timeout=0.001)) == 0
    with pytest.raises(RingFull, match="169 entries"):
        producer.append_many(range(170), 1, 0, timeout=0.001)
    with pytest.raises(ValueError, match="0 seconds or more"):
        producer.append(0, 1, 0, timeout=-1.0)
    consumer.take()
    with pytest.raises(ValueError, match="0 seconds or more"):
        consumer.take(timeout=-1.0)


def test_a_full_ring_waits_for_the_consumer_and_nothing_is_lost(ends: Ends) -> None:
    producer, consumer = ends
    count = 20_000
    numbers = np.arange(count, dtype=np.uint64)
    thread = threading.Thread(target=producer.append_many, args=(numbers, 8, numbers))
    thread.start()
    got: list[int] = []
    while len(got) < count:
        batch = consumer.take(timeout=LIMIT)
        assert len(batch)
        got += batch["data"].tolist()
    thread.join(LIMIT)
    assert got == numbers.tolist()


@pytest.mark.slow
def test_no_wake_up_is_lost_in_a_ping_pong() -> None:
    """Each entry lets the other side go on: a lost wake-up would end it at the limit."""
    rounds = 20_000
    with Ring() as there, Ring() as back, there.producer() as ping, back.consumer() as pong:

        def answer() -> None:
            with there.consumer() as consumer, back.producer() as producer:
                for batch in consumer:
                    producer.append_entries(batch, LIMIT)

        thread = threading.Thread(target=answer)
        thread.start()
        for number in range(rounds):
            ping.append(number, 8, number)
            assert pong.take(LIMIT)["data"].tolist() == [number]
        ping.close()
        thread.join(LIMIT)
        assert not thread.is_alive()


# --- the ends ---


def test_an_end_has_one_owner(ends: Ends) -> None:
    with Ring() as ring, ring.producer(), ring.consumer():
        with pytest.raises(RingBusy, match=f"a producer already: process {os.getpid()}"):
            ring.producer()
        with pytest.raises(RingBusy, match=f"a consumer already: process {os.getpid()}"):
            ring.consumer()


def test_the_loop_ends_when_the_producer_has_closed_its_end_and_all_is_read() -> None:
    with Ring() as ring, ring.consumer() as consumer:
        with ring.producer() as producer:
            producer.append_many(range(5), 1, 0)
        assert [n for batch in consumer for n in batch["phys_addr"].tolist()] == [0, 1, 2, 3, 4]
        with pytest.raises(RingClosed, match="the producer has closed its end"):
            consumer.take(timeout=LIMIT)


def test_a_batch_of_a_loop_that_was_left_is_the_next_one_s() -> None:
    with Ring() as ring, ring.producer() as producer:
        producer.append_many(range(5), 1, 0)
        with ring.consumer() as consumer:
            for batch in consumer:
                assert len(batch) == 5
                break
        with ring.consumer() as consumer:
            assert len(consumer.take()) == 5


def test_a_closed_end_can_be_taken_again_and_goes_on() -> None:
    with Ring() as ring, ring.consumer() as consumer:
        for number in range(400):
            with ring.producer() as producer:
                producer.append(number, 1, 0)
            assert consumer.take()["phys_addr"].tolist() == [number]


def test_nobody_appends_for_a_consumer_that_has_closed_its_end() -> None:
    with Ring() as ring, ring.producer() as producer:
        producer.append(0, 1, 0)  # nobody has been there yet
        ring.consumer().close()
        with pytest.raises(RingClosed, match="the consumer has closed its end"):
            producer.append(0, 1, 0)
        with pytest.raises(RingClosed, match="the consumer has closed its end"):
            producer.append_many([0], 1, 0)


def test_an_end_of_one_s_own_that_is_closed_is_refused(ends: Ends) -> None:
    producer, consumer = ends
    producer.close()
    producer.close()
    consumer.close()
    calls: tuple[Callable[[], object], ...] = (
        lambda: producer.append(0, 1, 0),
        lambda: producer.append_many([0], 1, 0),
        lambda: producer.wait(0),
        lambda: consumer.take(0),
        consumer.peek,
        lambda: consumer.commit(0),
    )
    for call in calls:
        with pytest.raises(RingClosed, match="end is closed"):
            call()


def test_an_end_that_is_dropped_is_closed() -> None:
    with Ring() as ring, ring.consumer() as consumer:
        producer = ring.producer()
        del producer
        with pytest.raises(RingClosed, match="the producer has closed its end"):
            consumer.take(timeout=LIMIT)


# --- descriptors and names ---


def test_a_ring_comes_over_a_socket() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, Ring(1000) as ring:
        ring.send(ours)
        with Ring.receive(theirs) as other, other.consumer() as consumer, ring.producer() as p:
            assert other.capacity == ring.capacity
            p.append(1, 1, 1)
            assert len(consumer.take()) == 1
        ours.close()
        with pytest.raises(EOFError, match="no ring came"):
            Ring.receive(theirs)


def test_a_ring_has_a_name_as_long_as_it_is_open() -> None:
    name = f"test-{os.getpid()}"
    with Ring(name=name) as ring, Ring.open(name) as other:
        with ring.producer() as producer, other.consumer() as consumer:
            producer.append(1, 1, 1)
            assert len(consumer.take()) == 1
        with pytest.raises(RingBusy, match=f"{name!r} is open already"):
            Ring(name=name)
    with pytest.raises(HostError, match=f"no process has a ring named {name!r}"):
        Ring.open(name, timeout=0)
    with Ring(name=name), Ring.open(name):
        pass


@pytest.mark.parametrize("timeout", [-1.0, math.nan])
def test_a_name_is_not_waited_for_by_a_timeout_that_is_none(timeout: float) -> None:
    with pytest.raises(ValueError, match="expected a timeout of 0 seconds or more"):
        Ring.open(f"test-{os.getpid()}", timeout)


@pytest.mark.parametrize("name", ["", "x" * 65])
def test_a_name_has_1_to_64_bytes(name: str) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ValueError, match="a name of 1 to 64 bytes"):
        Ring(name=name)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize(
    ("offset", "value", "wrong"),
    [
        (0, b"nothing!", "expected memory that begins with b'coalring'"),
        (8, struct.pack("<I", 2), "expected a ring of version 1, got version 2"),
        (12, struct.pack("<I", 8192), "8192 bytes behind a page does not fill 8192 bytes"),
    ],
)
def test_memory_of_another_geometry_is_refused(offset: int, value: bytes, wrong: str) -> None:
    with Ring() as ring:
        os.pwrite(ring.fds[0], value, offset)
        before = os.listdir("/proc/self/fd")
        with pytest.raises(GeometryError, match=wrong):
            Ring.from_fds(*map(os.dup, ring.fds))
        assert os.listdir("/proc/self/fd") == before


def test_descriptors_of_something_else_are_refused() -> None:
    with Ring() as ring:
        memory, *bells = ring.fds
        for fds in ((bells[0], memory, bells[1]), (os.open("/dev/null", os.O_RDWR), *bells)):
            with pytest.raises(GeometryError, match="these descriptors are no ring"):
                Ring.from_fds(*map(os.dup, fds))
        with pytest.raises(GeometryError, match="expected two sockets"):
            Ring.from_fds(*map(os.dup, (memory, memory, bells[0])))
    short = os.memfd_create("short")
    os.ftruncate(short, 4096)
    os.pwrite(short, struct.pack("<8sII", b"coalring", 1, 0), 0)
    with Ring() as ring, pytest.raises(GeometryError, match="does not fill 4096"):
        Ring.from_fds(short, *map(os.dup, ring.fds[1:]))


def test_the_memory_cannot_be_truncated() -> None:
    with Ring() as ring:
        for size in (0, 4096, 1 << 20):
            with pytest.raises(PermissionError):
                os.ftruncate(ring.fds[0], size)


def test_a_bad_index_is_an_error_of_the_protocol() -> None:
    with Ring() as ring, ring.producer() as producer, ring.consumer() as consumer:
        os.pwrite(ring.fds[0], struct.pack("<II", 0, 170), 4096)
        with pytest.raises(ProtocolError, match="index last is 170"):
            consumer.take()
        os.pwrite(ring.fds[0], struct.pack("<II", 170, 0), 4096)
        with pytest.raises(ProtocolError, match="index first is 170"):
            producer.append_many(range(170), 1, 0)


def test_a_closed_ring_gives_its_descriptors_back_and_no_more_ends() -> None:
    before = os.listdir("/proc/self/fd")
    with Ring(name=f"again-{os.getpid()}") as ring, ring.producer(), ring.consumer():
        pass
    assert os.listdir("/proc/self/fd") == before
    with pytest.raises(RingClosed, match="the ring is closed"):
        ring.producer()


# --- asyncio ---


def test_asyncio_runs_other_tasks_while_either_side_waits() -> None:
    numbers = np.arange(5000, dtype=np.uint64)
    entries = np.zeros(len(numbers), abi.KVM_COALESCED_MMIO)
    entries["phys_addr"], entries["len"] = numbers, 1

    async def write(ring: Ring) -> None:
        with ring.producer() as producer:
            await producer.append_async(entries, LIMIT)

    async def read(ring: Ring) -> list[int]:
        with ring.consumer() as consumer:
            return [n async for batch in consumer for n in batch["phys_addr"].tolist()]

    async def both() -> None:
        with Ring() as ring:
            reading = asyncio.create_task(read(ring))
            await asyncio.sleep(0)  # the consumer sleeps first
            await write(ring)
            assert await asyncio.wait_for(reading, LIMIT) == numbers.tolist()

    asyncio.run(both())


def test_a_wait_in_asyncio_has_a_timeout(ends: Ends) -> None:
    producer, consumer = ends

    async def wait() -> None:
        assert not await consumer.ready(0.001)
        assert not await consumer.ready(0)
        assert await producer.ready()
        with pytest.raises(RingFull, match="169 entries"):
            await producer.append_async(np.ones(170, abi.KVM_COALESCED_MMIO), 0.001)
        assert await consumer.ready()

    asyncio.run(wait())


def test_an_armed_end_is_readable_when_the_other_one_moves(ends: Ends) -> None:
    producer, consumer = ends
    for number in range(100):
        assert consumer.arm()
        assert not select.select([consumer], [], [], 0)[0]
        producer.append(number, 1, 0)
        assert select.select([consumer], [], [], LIMIT)[0]
        consumer.disarm()
        assert not consumer.arm()
        assert len(consumer.take(0)) == 1
    assert consumer.arm()
    producer.close()
    assert select.select([consumer], [], [], LIMIT)[0]


def test_nobody_is_woken_that_does_not_sleep(ends: Ends) -> None:
    producer, consumer = ends
    consumer.arm()
    consumer.disarm()
    producer.append(0, 1, 0)
    assert producer._bell.signals == 0
    consumer.take()
    assert consumer.arm()
    producer.append(0, 1, 0)
    assert producer._bell.signals == 1
