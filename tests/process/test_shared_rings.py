"""`Ring` between processes: passed in each way, with a side that is killed at any moment."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
import pytest

from coalesced import PeerDied, Ring, RingBusy, RingClosed, RingFull

COUNT = 20_000
LIMIT = 60.0  # seconds; nothing here takes a tenth of it unless something hangs
NUMBERS = np.arange(COUNT, dtype=np.uint64)

PRODUCER = """
import numpy, sys
from coalesced import Ring
how, *arguments = sys.argv[1:]
ring = Ring.open(arguments[0]) if how == "name" else Ring.from_fds(*map(int, arguments))
numbers = numpy.arange(20_000, dtype=numpy.uint64)
with ring, ring.producer() as producer:
    producer.append_many(numbers, 8, numbers * numbers, timeout=60.0)
"""


def produce(ring: Ring) -> None:
    """The work of a child process: all numbers with their squares."""
    with ring.producer() as producer:
        producer.append_many(NUMBERS, 8, NUMBERS * NUMBERS, timeout=LIMIT)


def check_all(ring: Ring) -> None:
    """Every number is there, once and in order."""
    with ring.consumer() as consumer:
        batches = [batch.copy() for batch in consumer]
    entries = np.concatenate(batches)
    assert np.array_equal(entries["phys_addr"], NUMBERS)
    assert np.array_equal(entries["data"], NUMBERS * NUMBERS)


@contextmanager
def forked(work: Callable[[], object]) -> Iterator[int]:
    """A child that does the work and ends, with status 1 if it raises; killed and reaped here."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def wait_for_end(pid: int) -> None:
    """Until the process is a zombie."""
    fd = os.pidfd_open(pid)
    assert select.select([fd], [], [], LIMIT)[0]
    os.close(fd)


def test_across_a_fork() -> None:
    with Ring() as ring, forked(lambda: produce(ring)):
        check_all(ring)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_as_an_argument_of_multiprocessing(method: str) -> None:
    context = multiprocessing.get_context(method)
    with Ring() as ring:
        child = context.Process(target=produce, args=(ring,))  # type: ignore[attr-defined]
        child.start()
        check_all(ring)
        child.join(LIMIT)
        assert child.exitcode == 0


def test_across_exec_as_inherited_descriptors() -> None:
    with Ring() as ring:
        command = [sys.executable, "-c", PRODUCER, "fds", *map(str, ring.fds)]
        with subprocess.Popen(command, pass_fds=ring.fds) as child:
            check_all(ring)
        assert child.returncode == 0


def test_across_exec_by_name() -> None:
    name = f"test-{os.getpid()}"
    command = [sys.executable, "-c", PRODUCER, "name", name]
    # The other process waits for the name.
    with subprocess.Popen(command) as child, Ring(name=name) as ring:
        check_all(ring)
        child.wait(LIMIT)
    assert child.returncode == 0


def test_over_a_socket_to_a_process_that_was_there_before() -> None:
    ours, theirs = socket.socketpair()

    def work() -> None:
        ours.close()
        with Ring.receive(theirs) as ring:
            produce(ring)

    with ours, theirs, forked(work), Ring() as ring:
        ring.send(ours)
        check_all(ring)


def test_a_fork_cannot_use_the_end_of_its_parent_nor_close_it() -> None:
    with Ring(name=f"fork-{os.getpid()}") as ring, ring.producer() as producer:

        def work() -> None:
            with pytest.raises(RingBusy, match=f"belongs to process {os.getppid()}"):
                producer.append(0, 1, 0)
            with pytest.raises(RingBusy, match=f"belongs to process {os.getppid()}"):
                producer.append_many([0], 1, 0)
            producer.close()
            ring.close()

        with forked(work) as pid:
            ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            assert ended is not None
            assert ended.si_status == 0
        with Ring.open(f"fork-{os.getpid()}") as other, other.consumer() as consumer:
            producer.append(1, 1, 1)
            assert len(consumer.take(LIMIT)) == 1


def test_the_consumer_gets_all_of_a_dead_producer_s_entries_and_then_hears_of_its_death() -> None:
    with Ring() as ring, ring.consumer() as consumer:

        def work() -> None:
            producer = ring.producer()
            producer.append_many(range(100), 8, 1)
            os.kill(os.getpid(), signal.SIGKILL)

        with forked(work) as pid:
            assert len(consumer.take(LIMIT)) == 100
            with pytest.raises(PeerDied, match=f"the producer's process {pid} has ended"):
                consumer.take(LIMIT)
            with ring.producer() as producer:  # in its place
                producer.append(1, 1, 1)
                assert len(consumer.take(LIMIT)) == 1


def test_a_producer_that_waits_hears_of_its_consumer_s_death() -> None:
    reader, writer = os.pipe()
    with Ring() as ring, ring.producer() as producer:

        def work() -> None:
            with ring.consumer():
                os.write(writer, b"!")
                signal.pause()

        with forked(work) as pid:
            os.read(reader, 1)
            killer = threading.Thread(target=os.kill, args=(pid, signal.SIGKILL))
            killer.start()
            with pytest.raises(PeerDied, match=f"the consumer's process {pid} has ended"):
                producer.append_many(range(1000), 1, 0, timeout=LIMIT)
            killer.join()
        with pytest.raises(RingFull, match="0 entries") as caught, ring.consumer():
            producer.append(0, 1, 0, timeout=0)
        assert caught.value.appended == 0
    os.close(reader)
    os.close(writer)


def test_a_wait_in_asyncio_hears_of_the_producer_s_death() -> None:
    reader, writer = os.pipe()
    with Ring() as ring, ring.consumer() as consumer:

        def work() -> None:
            with ring.producer():
                os.read(reader, 1)
                os.kill(os.getpid(), signal.SIGKILL)

        async def listen() -> None:
            # It dies when the consumer has gone to sleep.
            asyncio.get_running_loop().call_later(0.01, os.write, writer, b"!")
            async for _ in consumer:
                pytest.fail("an entry that nobody appended")

        with forked(work), pytest.raises(PeerDied, match="the producer's process"):
            asyncio.run(asyncio.wait_for(listen(), LIMIT))
    os.close(reader)
    os.close(writer)


def test_a_process_with_a_reused_id_is_not_taken_for_the_owner() -> None:
    """The owner's word has its start time, too."""
    with Ring() as ring:
        word = os.getpid() | 1 << 32
        os.pwrite(ring.fds[0], word.to_bytes(8, "little"), 64)
        with ring.consumer() as consumer:
            with pytest.raises(PeerDied, match=f"the producer's process {os.getpid()}"):
                consumer.take(LIMIT)
            ring.producer().close()
            with pytest.raises(RingClosed):
                consumer.take(LIMIT)


@pytest.mark.parametrize("kills", [30, pytest.param(1000, marks=pytest.mark.heavy)])
def test_sides_that_are_killed_at_random_lose_and_repeat_nothing(kills: int) -> None:
    """The next producer goes on behind the last entry, the next consumer at the first one.

    Entries that a killed consumer had looked at and not committed come again; no other does.
    """
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    memory = set(os.listdir("/dev/shm"))
    with Ring() as ring:
        number = 0
        for _ in range(kills):
            kill = chance.choice((_kill_producer, _kill_consumer))
            number = kill(ring, number, int(3000 ** chance.random()))
    names = {name for name in os.listdir("/dev/shm") if str(os.getpid()) in name}
    assert not names - memory


def _kill_producer(ring: Ring, number: int, count: int) -> int:
    """Kill the producer after `count` entries from `number` on; the number of the next one."""

    ours, theirs = socket.socketpair()

    def write() -> None:
        with ring.producer() as producer:
            theirs.send(b"!")
            at = number
            while True:
                size = 1 + at % 50
                producer.append_many(np.arange(at, at + size), 8, at)
                at += size

    at = number
    with ours, theirs, ring.consumer() as consumer, forked(write) as pid:
        ours.recv(1)  # in place of the producer before, which has closed its end
        while at < number + count:
            at += _in_order(consumer.take(LIMIT), at)
        os.kill(pid, signal.SIGKILL)
        wait_for_end(pid)
        with suppress(PeerDied):
            while True:
                at += _in_order(consumer.take(LIMIT), at)
    return at


def _kill_consumer(ring: Ring, number: int, count: int) -> int:
    """Kill the consumer after `count` entries; all that it has not committed come to the next."""

    ours, theirs = socket.socketpair()

    def read() -> None:
        with ring.consumer() as consumer:
            theirs.send(b"!")
            at = number
            for batch in consumer:
                at += _in_order(batch, at)

    with ours, theirs, ring.producer() as producer, forked(read) as pid:
        ours.recv(1)
        producer.append_many(np.arange(number, number + count), 8, 0, timeout=LIMIT)
        os.kill(pid, signal.SIGKILL)
        wait_for_end(pid)
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        assert ended.si_status == signal.SIGKILL
        with ring.consumer() as consumer:
            left = consumer.peek()
            assert len(left) <= count
            _in_order(left, number + count - len(left))
            consumer.commit(len(left))
    return number + count


def _in_order(batch: np.ndarray[tuple[int], np.dtype[np.void]], number: int) -> int:
    assert batch["phys_addr"].tolist() == list(range(number, number + len(batch)))
    return len(batch)
