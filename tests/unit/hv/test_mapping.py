"""Mappings and segments: truncated by somebody else, gone from the name space, no room."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from coalesced.hv import abi, core, doorbell, shm
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.errors import PeerDied, ProtocolError, SegmentError
from helpers.hv_pair import LIMIT, Pair, segment

PAGE = abi.PAGE_SIZE
TRUNCATED = (
    "shared-memory segment '{}' was truncated by another process, or /dev/shm is full: "
    "expected {} bytes"
)


@pytest.fixture
def mapped() -> Iterator[tuple[core.Mapping, int, int]]:
    """Two segments of 2 and 3 pages side by side, and their descriptors."""
    parts = [segment("one", 2 * PAGE), segment("two", 3 * PAGE)]
    yield core.Mapping(parts), parts[0][1], parts[1][1]
    for part in parts:
        os.close(part[1])


Mapped = tuple[core.Mapping, int, int]

# --- a mapping as a buffer ---


def test_segments_lie_side_by_side(mapped: Mapped) -> None:
    """In the order given, reachable by read, write and the buffer protocol alike."""
    mapping, one, two = mapped
    assert len(mapping) == 5 * PAGE
    mapping.write(2 * PAGE - 2, b"abcd")
    assert os.pread(one, 2, 2 * PAGE - 2) == b"ab"
    assert os.pread(two, 2, 0) == b"cd"
    view = np.frombuffer(memoryview(mapping), dtype=np.uint8)
    assert view[2 * PAGE - 2 : 2 * PAGE + 2].tobytes() == b"abcd"
    view[0] = 7
    assert mapping.read(0, 1) == b"\x07"
    mapping.check()


@pytest.mark.parametrize(
    ("offset", "size"),
    [
        (0, 5 * PAGE + 1),
        (5 * PAGE, 1),
        (-1, 1),
        (0, -1),
        (5 * PAGE + 1, 0),
        (0, 1 << 70),
        (-1 << 70, 1),
    ],
)
def test_reading_outside_is_refused(mapped: Mapped, offset: int, size: int) -> None:
    """To the byte, and in 64 bits."""
    with pytest.raises(ValueError, match="does not lie in a mapping"):
        mapped[0].read(offset, size)


def test_writing_outside_is_refused(mapped: Mapped) -> None:
    """Nothing of it is written."""
    mapping, _, _ = mapped
    for offset in (5 * PAGE - 1, -1, 1 << 70):
        with pytest.raises(ValueError, match="does not lie in a mapping"):
            mapping.write(offset, b"\xff\xff")
    assert mapping.read(5 * PAGE - 1, 1) == b"\0"
    mapping.write(5 * PAGE, b"")


@pytest.mark.parametrize("size", [0, -PAGE, 1, PAGE - 1, PAGE + 1])
def test_a_segment_has_whole_pages(size: int) -> None:
    """The message names the segment and its size."""
    with pytest.raises(ValueError, match=f"segment 'x': expected .* multiple of 4096 .* {size}"):
        core.Mapping([("x", 0, size)])


def test_a_mapping_has_1_to_4_segments(mapped: Mapped) -> None:
    """And each is a name, a descriptor and a size."""
    _, one, _ = mapped
    assert len(core.Mapping([("x", one, PAGE)] * 4)) == 4 * PAGE
    for count in (0, 5):
        with pytest.raises(ValueError, match=f"1 to 4 segments, got {count}"):
            core.Mapping([("x", one, PAGE)] * count)
    with pytest.raises(TypeError):
        core.Mapping([(one, "x", PAGE)])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        core.Mapping(3)  # type: ignore[arg-type]
    with pytest.raises(OSError, match="Bad file descriptor"):
        core.Mapping([("x", -1, PAGE)])


def test_a_view_outlives_its_mapping(mapped: Mapped) -> None:
    """The pages stay as long as something looks at them."""
    _, one, _ = mapped
    view = np.frombuffer(memoryview(core.Mapping([("x", one, PAGE)])), dtype=np.uint8)
    view[5] = 42
    assert os.pread(one, 1, 5) == b"*"


def test_many_mappings_come_and_go(mapped: Mapped) -> None:
    """The table of guarded segments gives its places back."""
    _, one, _ = mapped
    for _ in range(10_000):
        core.Mapping([("x", one, PAGE)])


# --- truncated by another process ---


@pytest.mark.parametrize("left", [0, PAGE, PAGE + 5])
def test_a_truncated_segment_is_an_error_and_no_signal(mapped: Mapped, left: int) -> None:
    """Read, write and check name the segment; what lies before it is still whole."""
    mapping, _, two = mapped
    mapping.write(2 * PAGE, b"\xff" * (3 * PAGE))
    os.ftruncate(two, left)
    mapping.check()  # nobody has touched it yet
    said = re.escape(TRUNCATED.format("two", 3 * PAGE))
    with pytest.raises(SegmentError, match=said):
        mapping.read(2 * PAGE, 3 * PAGE)
    with pytest.raises(SegmentError, match=said):
        mapping.check()
    with pytest.raises(SegmentError, match=said):
        mapping.read(0, 1)
    with pytest.raises(SegmentError, match=said):
        mapping.write(4 * PAGE, b"x")


def test_a_truncated_segment_is_survived_through_numpy(mapped: Mapped) -> None:
    """A view reads 0 there and takes writes; `check` reports it afterwards."""
    mapping, one, _ = mapped
    view = np.frombuffer(memoryview(mapping), dtype=np.uint64)
    view[:] = 1
    os.ftruncate(one, 0)
    assert int(view.sum()) == 3 * PAGE // 8
    view[:] = 2
    assert int(view.sum()) == 2 * 5 * PAGE // 8
    with pytest.raises(SegmentError, match="segment 'one'"):
        mapping.check()


def test_truncation_of_one_mapping_does_not_touch_others(mapped: Mapped) -> None:
    """Even of the same segment, as long as they do not look at the lost part."""
    mapping, one, two = mapped
    other, both = core.Mapping([("one", one, PAGE)]), core.Mapping([("two", two, 3 * PAGE)])
    os.ftruncate(two, 2 * PAGE)
    assert both.read(0, 2 * PAGE) == bytes(2 * PAGE)
    with pytest.raises(SegmentError):
        both.read(2 * PAGE, 1)
    other.check()
    mapping.check()


def test_a_new_mapping_in_an_old_place_is_not_truncated(mapped: Mapped) -> None:
    """The mark goes with its mapping."""
    _, one, _ = mapped
    lost = segment("lost", PAGE)
    for _ in range(20):
        gone = core.Mapping([lost])
        os.ftruncate(lost[1], 0)
        with pytest.raises(SegmentError):
            gone.read(0, 1)
        os.ftruncate(lost[1], PAGE)
        del gone
        core.Mapping([("one", one, PAGE)]).read(0, 1)
    os.close(lost[1])


@pytest.mark.parametrize("end", ["append", "publish", "peek", "pending", "commit", "new"])
def test_either_end_of_a_truncated_ring_says_so(end: str) -> None:
    """Each call that touches the ring."""
    part = segment("ring", 2 * PAGE)
    mapping = core.Mapping([part])
    producer, consumer = (
        core.Producer(mapping, 0, 2 * PAGE),
        core.Consumer(mapping, 0, 2 * PAGE),
    )
    producer.append(1, 1, 1)
    producer.publish()
    consumer.peek()
    producer.append(2, 1, 2)
    os.ftruncate(part[1], 0)
    calls: dict[str, Callable[[], object]] = {
        "append": lambda: producer.append(3, 1, 3),
        "publish": producer.publish,
        "peek": consumer.peek,
        "pending": consumer.pending,
        "commit": lambda: consumer.commit(1),
        "new": lambda: core.Consumer(mapping, 0, 2 * PAGE).peek(),
    }
    with pytest.raises(SegmentError, match="segment 'ring' was truncated"):
        calls[end]()
    os.close(part[1])


POLICIES = pytest.mark.parametrize("policy", list(WaitPolicy), ids=lambda p: p.name.lower())


@POLICIES
@pytest.mark.parametrize("timeout", [None, 0.05, 0])
def test_a_vmm_that_waits_on_a_truncated_run_page_says_so(
    policy: WaitPolicy, timeout: float | None
) -> None:
    """Before it sleeps: no exit can be seen any more."""

    def overdue(number: int, frame: object) -> None:
        raise TimeoutError("it sleeps on a page that is gone")

    with Pair(policy) as pair:
        pair.handle.enter()
        os.ftruncate(pair.segments[0][1], 0)
        before = signal.signal(signal.SIGALRM, overdue)
        signal.setitimer(signal.ITIMER_REAL, 20)
        try:
            with pytest.raises(SegmentError, match="'run page' was truncated"):
                pair.handle.wait(timeout, False)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("call", ["enter", "exit", "set_irq", "request"])
def test_a_vmm_that_touches_a_truncated_run_page_says_so(call: str) -> None:
    """Each call that stores or reads there."""
    with Pair() as pair:
        pair.start(lambda vcpu: vcpu.store(0x5000, 1, 0))
        pair.next_exit()
        os.ftruncate(pair.segments[0][1], 0)
        calls: dict[str, Callable[[], object]] = {
            "enter": pair.handle.enter,
            "exit": pair.handle.exit,
            "set_irq": lambda: pair.handle.set_irq(1, True),
            "request": pair.handle.request,
        }
        # What a page of zeros holds breaks the layout, too; either error tells the truth.
        with pytest.raises(ProtocolError if call == "exit" else SegmentError):
            calls[call]()


def go_on(pair: Pair) -> None:
    """Enter the guest again and again."""
    while True:
        pair.handle.enter()
        pair.handle.wait(LIMIT, False)


@pytest.mark.parametrize("which", [0, 1], ids=["run page", "ring"])
@POLICIES
def test_a_guest_on_truncated_segments_ends_with_the_error(policy: WaitPolicy, which: int) -> None:
    """When it next exits or comes back from an exit; nothing hangs."""
    with Pair(policy) as pair:
        pair.vcpu.set_zones(0, np.array([[0x1000, 0x1FFF]], np.uint64))

        def guest(vcpu: core.Vcpu) -> None:
            vcpu.store(0x5000, 1, 0)
            for n in range(1000):
                vcpu.store(0x1000 + n, 1, 0)

        pair.start(guest)
        pair.next_exit()
        os.ftruncate(pair.segments[which][1], 0)
        with pytest.raises((SegmentError, PeerDied)):
            go_on(pair)
        os.write(pair.resume_write, b"x")  # wakes a guest that sleeps by its policy
        assert isinstance(pair.join(), SegmentError)


@pytest.mark.parametrize("access", ["load", "store", "read_memory", "write_memory", "execute"])
def test_a_guest_on_truncated_ram_gets_the_error(access: str) -> None:
    """RAM that is no longer shared must not be taken for RAM."""
    part = segment("memory slot 0", 2 * PAGE)
    with Pair() as pair:
        vcpu = pair.vcpu
        vcpu.set_memory(0x10000, core.Mapping([part]))
        vcpu.store(0x11000, 8, 1)
        os.ftruncate(part[1], PAGE)
        calls: dict[str, Callable[[], object]] = {
            "load": lambda: vcpu.load(0x11000, 8),
            "store": lambda: vcpu.store(0x11000, 8, 2),
            "read_memory": lambda: vcpu.read_memory(0x10FFF, 2),
            "write_memory": lambda: vcpu.write_memory(0x10FFF, b"ab"),
            "execute": lambda: vcpu.execute(np.array([(1, 1, 0x11000, 3)], abi.OP)),
        }
        vcpu.load(0x10000, 8)
        with pytest.raises(SegmentError, match="'memory slot 0' was truncated"):
            calls[access]()
    os.close(part[1])


def test_a_sigbus_that_is_not_ours_kills_as_before() -> None:
    """The handler leaves every other address to who was there before it."""
    script = """
        import mmap, os
        from coalesced.hv import core
        fd = os.memfd_create("x")
        os.ftruncate(fd, 4096)
        core.Mapping([("x", fd, 4096)])
        foreign = mmap.mmap(fd, 4096)
        os.ftruncate(fd, 0)
        foreign[0]
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        check=False,
        timeout=LIMIT,
        capture_output=True,
        cwd=Path(shm.__file__).parents[1],
    )
    assert done.returncode == -signal.SIGBUS, done.stderr


# --- policies ---


def test_policies_are_known_by_name() -> None:
    """In lower case, as the command line has them; the numbers are those of exit.h."""
    assert [(doorbell.WaitPolicy.named(n), n) for n in ("block", "adaptive", "poll")] == [
        (0, "block"),
        (1, "adaptive"),
        (2, "poll"),
    ]
    with pytest.raises(KeyError):
        doorbell.WaitPolicy.named("never")


def test_with_one_cpu_adaptive_means_block() -> None:
    """A spin would only keep the other side from running."""
    block, adaptive, poll = WaitPolicy.BLOCK, WaitPolicy.ADAPTIVE, WaitPolicy.POLL
    assert doorbell.effective(adaptive, {3}, {3}) is block
    assert doorbell.effective(adaptive, {0}, {1}) is adaptive
    assert doorbell.effective(adaptive, {0, 1}, {0, 1}) is adaptive
    assert doorbell.effective(poll, {0}, {0}) is poll
    assert doorbell.effective(block, {0}, {1}) is block


def test_pipes_neither_block_nor_go_to_children() -> None:
    """Both ends."""
    for fd in doorbell.pipe():
        assert not os.get_blocking(fd)
        assert not os.get_inheritable(fd)
        os.close(fd)
