"""Sleeps that end at a byte that comes, while the pipe keeps older ones."""

from __future__ import annotations

import fcntl
import os
import resource
import struct
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Queue

import pytest

from coalesced.hv import core
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.errors import PeerDied
from coalesced.hv.outcome import Event
from helpers.hv_pair import LIMIT, Pair

PIPE = 4096  # bytes: the smallest
LOADS = 300


def waiting(fd: int) -> int:
    """The bytes in a pipe."""
    return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0])


def load_often(vcpu: core.Vcpu) -> None:
    """More loads than a pipe keeps bytes."""
    for address in range(LOADS):
        assert vcpu.load(address, 1) == address & 0xFF


def answer_all(pair: Pair) -> None:
    """Answer the loads of `load_often`, then see the guest halt."""
    for address in range(LOADS):
        assert pair.next_exit()[1] == address
        pair.handle.complete(address)
    pair.next_exit()


def test_bytes_stay_in_the_pipe_until_there_are_256() -> None:
    """A sleep that finds fewer reads none, and one that finds more reads all."""
    turn, left = threading.Semaphore(0), Queue[int]()

    def program(vcpu: core.Vcpu) -> None:
        for _ in range(2):
            assert turn.acquire(timeout=LIMIT)
            assert vcpu.wait_interrupt(1 << 63, 0.001) == 0
            left.put(waiting(pair.resume_read))

    with Pair(policy=WaitPolicy.BLOCK) as pair:
        pair.start(program)
        pair.handle.enter()
        for toggles, expected in ((50, 101), (100, 0)):
            for _ in range(toggles):
                pair.handle.set_irq(0, True)
                pair.handle.set_irq(0, False)
            turn.release()
            assert left.get(timeout=LIMIT) == expected
        pair.this_exit()


def test_a_guest_empties_a_pipe_that_was_filled_while_it_did_not_wait() -> None:
    """A full pipe takes no byte, so that nothing would be reported any more."""
    filled = threading.Event()

    def program(vcpu: core.Vcpu) -> None:
        assert filled.wait(LIMIT)
        load_often(vcpu)

    with Pair(policy=WaitPolicy.BLOCK) as pair:
        fcntl.fcntl(pair.resume_read, fcntl.F_SETPIPE_SZ, PIPE)
        pair.start(program)
        pair.handle.enter()
        for _ in range(PIPE):
            pair.handle.set_irq(0, True)
            pair.handle.set_irq(0, False)
        assert waiting(pair.resume_read) == PIPE
        filled.set()
        answer_all(pair)
        assert waiting(pair.resume_read) < PIPE / 2


def test_the_end_of_a_peer_is_seen_in_each_wait_behind_a_byte() -> None:
    """The byte and the end may be one edge."""
    with Pair(policy=WaitPolicy.BLOCK) as pair:
        ready, closed = threading.Event(), threading.Event()

        def program(vcpu: core.Vcpu) -> None:
            ready.set()
            assert closed.wait(LIMIT)
            with pytest.raises(PeerDied):
                vcpu.load(0, 1)
            vcpu.load(0, 1)

        pair.start(program)
        pair.handle.enter()
        assert ready.wait(LIMIT)
        os.close(pair.resume_write)
        closed.set()
        assert isinstance(pair.join(), PeerDied)
        pair.resume_write = os.dup(pair.exit_read)  # what the pair closes at its end


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Whoever asks for another descriptor gets EMFILE."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def epolls() -> int:
    """How many this process has."""
    paths = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    return sum(
        os.readlink(path) == "anon_inode:[eventpoll]" for path in paths if os.path.lexists(path)
    )


def test_without_a_descriptor_for_it_both_sides_sleep_by_ppoll() -> None:
    """Each byte is then read before the next sleep."""
    before = epolls()
    with Pair(policy=WaitPolicy.BLOCK) as pair:
        assert epolls() == before + 2
        del pair.vcpu, pair.handle
        with no_descriptor_left():
            pair.make_vcpu()
        assert epolls() == before
        pair.start(load_often)
        answer_all(pair)


def test_another_file_of_the_same_number_is_watched() -> None:
    """The first one is closed, and the next one opened, between two waits."""
    with Pair(policy=WaitPolicy.BLOCK) as pair:
        pair.handle.enter()
        for _ in range(2):
            watched, other = os.pipe()
            pair.handle.watch(watched)
            assert pair.handle.wait(0.001, core.WATCH_DESCRIPTOR) == Event.TIMED_OUT
            os.write(other, b"x")
            assert pair.handle.wait(LIMIT, core.WATCH_DESCRIPTOR) == Event.READABLE
            os.close(watched)
            os.close(other)
        pair.start(lambda vcpu: None)
        pair.this_exit()
