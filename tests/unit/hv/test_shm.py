"""Segments: made without a name, received with care, names of dead creators removed."""

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
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import posix_ipc
import pytest

from coalesced.hv import abi, shm
from coalesced.hv.errors import HostError, SegmentError
from helpers.descriptors import descriptors
from helpers.hv_pair import LIMIT, segment

PAGE = abi.PAGE_SIZE


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
    before = descriptors()
    with pytest.raises(HostError, match=said):
        shm.create("thing", PAGE)
    assert names() == set()
    assert descriptors() - before == set()


def test_a_refused_segment_is_a_host_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when /dev/shm is not mounted or not ours to write."""

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise posix_ipc.PermissionsError("No permission to access this segment")

    monkeypatch.setattr(posix_ipc, "SharedMemory", refuse)
    with pytest.raises(
        HostError, match="no shared memory segment for thing of 4096 bytes: No perm"
    ):
        shm.create("thing", PAGE)


def in_small_dev_shm(script: str) -> str:
    """What a script prints where /dev/shm is a file system of 64 KiB of its own."""
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
    return done.stdout.strip()


@pytest.mark.slow
def test_a_full_dev_shm_is_a_host_error() -> None:
    """The last page fits, one more does not."""
    script = """
        from coalesced.hv import shm
        from coalesced.hv.errors import HostError
        kept = shm.create("first", 60 * 1024)
        try:
            shm.create("second", 8 * 1024)
        except HostError as error:
            print(error)
        shm.create("third", 4096)
    """
    assert in_small_dev_shm(script) == (
        "no room for second: 8192 bytes of POSIX shared memory (/dev/shm) wanted, 4096 bytes free"
    )


@pytest.mark.slow
def test_a_page_that_was_not_reserved_is_a_segment_error_where_dev_shm_is_full() -> None:
    script = """
        from coalesced.hv import shm
        from coalesced.hv.errors import SegmentError
        made = shm.create("large", 1 << 20, reserve=False)
        mapping = shm.mapped(made)
        mapping.write(512 * 1024, bytes(32 * 1024))
        try:
            mapping.write(0, bytes(64 * 1024))
        except SegmentError as error:
            print(error)
    """
    assert in_small_dev_shm(script) == (
        "shared-memory segment 'large' was truncated by another process, or /dev/shm is full: "
        "expected 1048576 bytes"
    )


def test_a_segment_that_is_not_reserved_takes_no_memory_before_it_is_used() -> None:
    made = shm.create("large", 1 << 32, reserve=False)
    try:
        mapping = shm.mapped(made)
        assert os.fstat(made.fd).st_blocks == 0
        mapping.write((1 << 32) - 1, b"x")
        assert os.fstat(made.fd).st_blocks * 512 == PAGE
        assert mapping.read((1 << 32) - 2, 2) == b"\0x"
    finally:
        made.close()


def test_a_received_segment_is_checked_against_its_size() -> None:
    """Another size, no size and a part of a page are refused, and the descriptor is closed."""
    for size, expected, wanted in (
        (PAGE, 2 * PAGE, f"{2 * PAGE} bytes"),
        (0, 0, "whole pages"),
        (PAGE + 1, PAGE + 1, "whole pages"),
    ):
        _, fd, _ = segment("thing", size)
        said = f"segment thing: expected {wanted}.*, got {size} bytes"
        with pytest.raises(SegmentError, match=said):
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
    assert sorted(shm.remove_orphans(str(directory))) == sorted([dead, reused])
    assert {path.name for path in directory.iterdir()} == {live, *foreign}
    assert shm.remove_orphans(str(directory)) == []


STRANGE = [
    b"coalesced-\xff",
    b"coalesced-1-1-\xff\xfe",
    b"coalesced-1-1-a\n",
    b"coalesced-1-1-a/../b".replace(b"/", b"\\"),
    "coalesced-\u00b2-1-a".encode(),
    "coalesced-1-\u00b2-a".encode(),
    "coalesced-\u0661-1-a".encode(),
    b"coalesced--1-1-a",
    b"coalesced-1-1-",
    b"coalesced-" + b"9" * 200 + b"-1-a",
]


@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_name_of_somebody_else_is_passed_over(directory: Path, name: bytes) -> None:
    """Anybody may put names into /dev/shm; none of them keeps a guest process from starting."""
    os.close(os.open(os.fsencode(directory) + b"/" + name, os.O_CREAT | os.O_WRONLY))
    assert shm.remove_orphans(str(directory)) == []
    assert os.listdir(os.fsencode(directory)) == [name]


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/nowhere", path)])
def test_what_is_no_file_is_passed_over(directory: Path, make: Callable[[Path], None]) -> None:
    """Under a name that would be an orphan's."""
    name = f"coalesced-{a_dead_pid()}-1-0011"
    make(directory / name)
    assert shm.remove_orphans(str(directory)) == []
    assert os.listdir(directory) == [name]


@pytest.mark.skipif(os.geteuid() != 0, reason="a file of another user takes root to make")
def test_a_file_of_another_user_is_passed_over(directory: Path) -> None:
    """Also by root."""
    name = f"coalesced-{a_dead_pid()}-1-0011"
    (directory / name).touch()
    os.chown(directory / name, 12345, 12345)
    assert shm.remove_orphans(str(directory)) == []


def test_a_name_stays_while_somebody_has_the_segment_open() -> None:
    """A creator in another PID namespace looks gone; what it has open says that it is not."""
    name = f"/coalesced-{a_dead_pid()}-1-0011"
    made = posix_ipc.SharedMemory(name, flags=posix_ipc.O_CREX, mode=0o600)
    try:
        assert name[1:] not in shm.remove_orphans()
        os.close(made.fd)
        assert name[1:] in shm.remove_orphans()
    finally:
        with suppress(posix_ipc.ExistentialError):
            posix_ipc.unlink_shared_memory(name)


def test_the_name_is_gone_before_anything_is_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends while it reserves a segment leaves no name behind."""

    def reserve(fd: int, offset: int, size: int) -> None:
        assert os.fstat(fd).st_nlink == 0
        assert names() == set()

    monkeypatch.setattr(os, "posix_fallocate", reserve)
    shm.create("thing", PAGE).close()


def test_a_segment_whose_name_somebody_else_removed_is_as_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name that is gone when it is to go is what was wanted."""
    unlink = posix_ipc.unlink_shared_memory

    def twice(name: str) -> None:
        unlink(name)
        unlink(name)

    monkeypatch.setattr(posix_ipc, "unlink_shared_memory", twice)
    made = shm.create("thing", PAGE)
    assert os.fstat(made.fd).st_size == PAGE
    made.close()


def raising(monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    """Let a signal come right behind the opening of a segment."""
    made = posix_ipc.SharedMemory

    def interrupted(*args: object, **kwargs: object) -> object:
        shared = made(*args, **kwargs)
        signal.raise_signal(number)  # in this thread, whatever others there are
        return shared

    monkeypatch.setattr(posix_ipc, "SharedMemory", interrupted)


def test_ctrl_c_behind_the_opening_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, signal.SIGINT)
    before = descriptors()
    with pytest.raises(KeyboardInterrupt):
        shm.create("thing", PAGE)
    assert names() == set()
    assert descriptors() - before == set()


def test_ctrl_c_while_room_is_reserved_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "posix_fallocate", interrupted)
    before = descriptors()
    with pytest.raises(KeyboardInterrupt):
        shm.create("thing", PAGE)
    assert names() == set()
    assert descriptors() - before == set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_the_creator_leaves_no_name(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    raising(monkeypatch, number)
    child = os.fork()
    if child == 0:
        signal.signal(number, signal.SIG_DFL)
        shm.create("thing", PAGE)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -number
    assert [name for name in os.listdir(shm.DIRECTORY) if f"{shm.PREFIX}{child}-" in name] == []


@pytest.mark.slow
def test_runs_of_two_pid_namespaces_share_dev_shm() -> None:
    """None takes a name away from another while both start again and again."""
    if shutil.which("unshare") is None:
        pytest.skip("no unshare to make a PID namespace with")
    script = "from coalesced.hv import shm\nfor n in range(300):\n shm.create('x', 4096).close()\n"
    script += " assert shm.remove_orphans() == []\n"
    apart = ["unshare", *([] if os.geteuid() == 0 else ["-r"]), "--pid", "--fork", "--mount-proc"]
    try:
        subprocess.run([*apart, "true"], check=True, capture_output=True, timeout=LIMIT)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no PID namespace: {error.stderr.decode().strip()}")
    root = Path(shm.__file__).parents[1]
    runs = [
        subprocess.Popen([*where, sys.executable, "-c", script], cwd=root)
        for where in ([], apart, apart)
    ]
    assert [run.wait(LIMIT) for run in runs] == [0, 0, 0]


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
            assert shm.remove_orphans(str(directory)) == []
        finally:
            child.communicate(b"\n", timeout=LIMIT)


def test_without_the_directory_there_are_no_orphans(tmp_path: Path) -> None:
    """As on a machine without /dev/shm."""
    assert shm.remove_orphans(str(tmp_path / "none")) == []
