"""Mappings and segments: truncated by somebody else, gone from the name space, no room."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import posix_ipc
import pytest
from helpers.hv_pair import LIMIT, Pair, segment

from hv import abi, core, doorbell, shm
from hv.doorbell import WaitPolicy
from hv.errors import HostError, PeerDied, ProtocolError, SegmentError

PAGE = abi.PAGE_SIZE
TRUNCATED = "shared-memory segment '{}' was truncated by another process: expected {} bytes"


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
    ("offset", "size"), [(0, 5 * PAGE + 1), (5 * PAGE, 1), (-1, 1), (0, -1), (5 * PAGE + 1, 0)]
)
def test_reading_outside_is_refused(mapped: Mapped, offset: int, size: int) -> None:
    """To the byte, and in 64 bits."""
    with pytest.raises(ValueError, match="does not lie in a mapping"):
        mapped[0].read(offset, size)


def test_writing_outside_is_refused(mapped: Mapped) -> None:
    """Nothing of it is written."""
    mapping, _, _ = mapped
    for offset in (5 * PAGE - 1, -1):
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
    """A view reads 0 there and takes writes; `check` tells of it afterwards."""
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
        signal.setitimer(signal.ITIMER_REAL, 1)
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
        from hv import core
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


# --- segments ---


def names() -> set[str]:
    """Names of ours in /dev/shm that this process made."""
    return {n for n in os.listdir(shm.DIRECTORY) if n.startswith(f"{shm.PREFIX}{os.getpid()}-")}


def test_a_new_segment_is_zeroed_private_and_has_no_name() -> None:
    """Mode 0600, reserved in full, and already unlinked when `create` returns."""
    made = shm.create("thing", 3 * PAGE)
    try:
        assert names() == set()
        status = os.fstat(made.fd)
        assert stat.S_IMODE(status.st_mode) == 0o600
        assert status.st_nlink == 0
        assert status.st_size == made.size == 3 * PAGE
        assert status.st_blocks * 512 >= 3 * PAGE
        assert os.pread(made.fd, 4 * PAGE, 0) == bytes(3 * PAGE)
        assert not os.get_inheritable(made.fd)
        assert made.part() == ("thing", made.fd, 3 * PAGE)
    finally:
        made.close()


def test_the_name_says_who_made_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """`coalesced-<pid>-<start time>-<random>` while it lives."""
    seen: list[str] = []
    unlink = posix_ipc.unlink_shared_memory

    def spy(name: str) -> None:
        seen.append(name)
        assert name[1:] in os.listdir(shm.DIRECTORY)
        unlink(name)

    monkeypatch.setattr(posix_ipc, "unlink_shared_memory", spy)
    shm.create("thing", PAGE).close()
    start = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    (name,) = seen
    assert re.fullmatch(rf"/coalesced-{os.getpid()}-{start}-[0-9a-f]{{16}}", name)


@pytest.mark.parametrize("size", [0, -PAGE, 1, PAGE + 1])
def test_a_segment_of_no_whole_pages_is_refused(size: int) -> None:
    """The message names it."""
    with pytest.raises(ValueError, match=f"segment 'thing': .* multiple of 4096, got {size}"):
        shm.create("thing", size)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, r"no room for thing: 4096 bytes of POSIX shared memory .* \d+ bytes free"),
        (errno.EFBIG, "no shared memory for thing of 4096 bytes: .*File too large"),
    ],
)
def test_no_room_is_a_host_error_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    """Neither a name nor a descriptor."""

    def refuse(fd: int, offset: int, size: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(HostError, match=said):
        shm.create("thing", PAGE)
    assert names() == set()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_refused_segment_is_a_host_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when /dev/shm is not mounted or not ours to write."""

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise posix_ipc.PermissionsError("No permission to access this segment")

    monkeypatch.setattr(posix_ipc, "SharedMemory", refuse)
    with pytest.raises(
        HostError, match="no shared memory segment for thing of 4096 bytes: No perm"
    ):
        shm.create("thing", PAGE)


def test_a_full_dev_shm_is_a_host_error() -> None:
    """On a file system of 64 KiB of its own: the last page fits, one more does not."""
    script = """
        from hv import shm
        from hv.errors import HostError
        kept = shm.create("first", 60 * 1024)
        try:
            shm.create("second", 8 * 1024)
        except HostError as error:
            print(error)
        shm.create("third", 4096)
    """
    if shutil.which("unshare") is None or shutil.which("mount") is None:
        pytest.skip("no unshare and mount to make a small /dev/shm with")
    code = textwrap.dedent(script)
    command = ["unshare", *([] if os.geteuid() == 0 else ["-r"]), "-m", "sh", "-c"]
    mount = "mount -t tmpfs -o size=64k tmpfs /dev/shm || exit 99"
    done = subprocess.run(
        [*command, f'{mount}; exec "$0" -c "$1"', sys.executable, code],
        check=False,
        timeout=LIMIT,
        capture_output=True,
        text=True,
        cwd=Path(shm.__file__).parents[1],
    )
    if done.returncode == 99 or done.stderr.startswith("unshare"):
        pytest.skip(f"no namespace with a /dev/shm of its own: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (
        "no room for second: 8192 bytes of POSIX shared memory (/dev/shm) wanted, 4096 bytes free"
    )


def test_a_received_segment_is_checked_against_its_size() -> None:
    """Another size, no size and a part of a page are refused, and the descriptor is closed."""
    for size, expected in ((PAGE, 2 * PAGE), (0, 0), (PAGE + 1, PAGE + 1)):
        _, fd, _ = segment("thing", size)
        with pytest.raises(HostError, match=f"segment thing: expected .*, got {size} bytes"):
            shm.received("thing", fd, expected)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    _, fd, _ = segment("thing", PAGE)
    got = shm.received("thing", fd, PAGE)
    assert got == shm.Segment("thing", fd, PAGE)
    got.close()


# --- orphans ---


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for /dev/shm, so that no other test's names are touched."""
    monkeypatch.setattr(shm, "DIRECTORY", tmp_path)

    def unlink(name: str) -> None:
        try:
            (tmp_path / name.lstrip("/")).unlink()
        except FileNotFoundError:
            raise posix_ipc.ExistentialError(name) from None

    monkeypatch.setattr(posix_ipc, "unlink_shared_memory", unlink)
    return tmp_path


def start_time(pid: int) -> int:
    """Field 22 of a process's stat."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def a_dead_pid() -> int:
    """The id of a process that has ended and was reaped."""
    child = subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.DEVNULL)
    child.wait(LIMIT)
    return child.pid


def test_names_of_dead_creators_go_and_those_of_live_ones_stay(directory: Path) -> None:
    """A process id that is in use again by a later process does not keep a name."""
    ours = start_time(os.getpid())
    live = f"coalesced-{os.getpid()}-{ours}-0011"
    dead = f"coalesced-{a_dead_pid()}-{ours}-2233"
    reused = f"coalesced-{os.getpid()}-{ours - 1}-4455"
    foreign = ["other-1-1-1", "coalesced", "coalesced-", "coalesced-x-1-1", "coalesced-1-x-1"]
    for name in (live, dead, reused, *foreign):
        (directory / name).touch()
    assert sorted(shm.remove_orphans()) == sorted([dead, reused])
    assert {path.name for path in directory.iterdir()} == {live, *foreign}
    assert shm.remove_orphans() == []


@pytest.mark.parametrize("name", ["coalesced-\u00b2-1-x", "coalesced-1-\u00b2-x"])
def test_a_strange_name_of_somebody_else_is_passed_over(directory: Path, name: str) -> None:
    """Anybody may put names into /dev/shm; none of them keeps a guest process from starting."""
    (directory / name).touch()
    shm.remove_orphans()


def test_a_creator_with_a_strange_process_name_is_read(directory: Path) -> None:
    """A process may call itself anything, brackets and bytes that are no UTF-8 included."""
    program = """if True:
        open("/proc/self/comm", "wb").write(b") \\xff R 1")
        print(flush=True)
        input()
    """
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"\n"
        raw = Path(f"/proc/{child.pid}/stat").read_bytes().rpartition(b")")[2]
        name = f"coalesced-{child.pid}-{int(raw.split()[19])}-0011"
        (directory / name).touch()
        try:
            assert shm.remove_orphans() == []
        finally:
            child.communicate(b"\n", timeout=LIMIT)


def test_without_the_directory_there_are_no_orphans(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As on a machine without /dev/shm."""
    monkeypatch.setattr(shm, "DIRECTORY", tmp_path / "none")
    assert shm.remove_orphans() == []


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
