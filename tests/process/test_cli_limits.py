"""Resource limits and missing file systems are reported in one clear line."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from coalesced.hv.errors import HostError
from coalesced.hv.process import GuestProcess
from helpers.tiers import every, some_heavy
from helpers.vmm_cli import one_line, run

GUEST = "def main(vcpu):\n    vcpu.fill(0xa0000, 99, 1)\n"
RUN = ["run", "g.py:main"]
BENCH = ["bench", "exit", "--quick"]
COMMANDS = [
    ["info"],
    ["demo", "vga", "--png", "none"],
    ["demo", "e1000", "--frames", "10"],
    RUN,
    ["run", "g.py:main", "--accel", "direct"],
    ["replay", "boot", "--png", "none"],
    ["advise", "boot"],
    ["stress", "--seconds", "0.5"],
    ["litmus", "--slots", "2", "--entries", "1", "--model", "sc"],
    BENCH,
]
SOME = [["info"], ["stress", "--seconds", "0.5"], BENCH]  # beside RUN
needs_prlimit = pytest.mark.skipif(shutil.which("prlimit") is None, reason="no prlimit")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "g.py").write_text(GUEST)
    return tmp_path


def works_or_says_why(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """A command that has enough succeeds; else a single line says what it lacks."""
    if done.returncode == 0:
        assert done.stderr == ""
        return
    # OpenBLAS has a line of its own, in either process, before Python learns of it.
    told = done.stderr.splitlines()
    lines = [line for line in told if line and not line.startswith("OpenBLAS error: ")]
    if told and not lines:
        return
    assert len(lines) == 1, done.stderr
    assert any(word in lines[0] for word in words), lines[0]


@needs_prlimit
@some_heavy(
    "files, command",
    every([5, 7, 9, 11], COMMANDS),
    lambda files, command: command == RUN or (files == 9 and command in SOME),
)
def test_few_open_files(folder: Path, command: list[str], files: int) -> None:
    done = run(*command, cwd=folder, prefix=("prlimit", f"--nofile={files}"))
    words = ("open files", "Too many open files")
    works_or_says_why(done, *words)


def test_fewer_open_files_than_two_processes_need_is_a_failure(folder: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert before[1] > 6
    done = run("run", "g.py:main", cwd=folder, prefix=("prlimit", "--nofile=6"))
    assert "Too many open files" in one_line(done, 1)


@needs_prlimit
@some_heavy(
    "megabytes, command",
    every([60, 150], COMMANDS),
    lambda megabytes, command: command == RUN or (megabytes == 60 and command in SOME),
)
def test_little_address_space(folder: Path, command: list[str], megabytes: int) -> None:
    done = run(*command, cwd=folder, prefix=("prlimit", f"--as={megabytes << 20}"))
    works_or_says_why(done, "emory", "allocate", "cannot map", "failed to map")


# --- no more processes ---


def few_processes(number: int) -> tuple[str, ...]:
    """Run a command as a user with a limit on processes who may read what root may."""
    capabilities = "+dac_override,+dac_read_search"
    user = ("--reuid=54321", "--regid=54321", "--clear-groups")
    return (
        *("setpriv", *user, f"--inh-caps={capabilities}", f"--ambient-caps={capabilities}"),
        *("prlimit", f"--nproc={number}"),
    )


@pytest.fixture(scope="session")
def another_user() -> None:
    """Skips where a process may not become another user: root has no limit on processes."""
    if shutil.which("setpriv") is None:
        pytest.skip("no setpriv")
    done = subprocess.run([*few_processes(9), "true"], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("no right to become another user")


@pytest.mark.usefixtures("another_user")
@some_heavy("command", every(COMMANDS), lambda command: command in (RUN, BENCH))
def test_no_second_process(folder: Path, command: list[str]) -> None:
    done = run(*command, cwd=folder, prefix=few_processes(1))
    works_or_says_why(done, "Resource temporarily unavailable", "the limit on processes is reached")


@pytest.mark.parametrize(
    ("python", "reason"),
    [("/nowhere/python3", "No such file or directory"), ("/dev/null", "Permission denied")],
)
def test_a_python_that_cannot_be_started_is_named(
    monkeypatch: pytest.MonkeyPatch, python: str, reason: str
) -> None:
    monkeypatch.setattr(sys, "executable", python)
    with pytest.raises(HostError, match=f"cannot be started: {python}: {reason}$"):
        GuestProcess()


def test_a_guest_process_that_cannot_be_watched_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit leaves no descriptor for its pidfd."""
    started: list[int] = []

    def no_descriptor(pid: int) -> int:
        started.append(pid)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "pidfd_open", no_descriptor)
    with pytest.raises(HostError, match="cannot be started: Too many open files"):
        GuestProcess()
    (pid,) = started
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


# --- file systems that are missing or full ---

UNSHARE = ("unshare", "-m", "sh", "-c")


@pytest.fixture(scope="session")
def own_mounts() -> None:
    """Skips where a process may not have mounts of its own."""
    done = subprocess.run(
        [*UNSHARE, "mount -t tmpfs tmpfs /dev/shm"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no mount namespace with a /dev/shm of its own: {done.stderr.strip()}")


@pytest.mark.usefixtures("own_mounts")
@pytest.mark.parametrize("room", ["4k", "8k", "3m"])
def test_a_full_dev_shm_is_one_clear_line(tmp_path: Path, room: str) -> None:
    """For each segment: ring, run page, RAM."""
    script = f'mount -t tmpfs -o size={room} tmpfs /dev/shm && exec "$@"'
    done = run("demo", "vga", "--json", cwd=tmp_path, prefix=(*UNSHARE, script, "-"))
    said = one_line(done, 1)
    assert "bytes of POSIX shared memory (/dev/shm) wanted" in said


# A /dev with what every program expects, and no shm in it.
_NO_SHM = (
    "mkdir /tmp/$$ && mount -t tmpfs tmpfs /tmp/$$ && cd /tmp/$$ && touch null urandom && "
    "mount --bind /dev/null null && mount --bind /dev/urandom urandom && "
    'mount --move /tmp/$$ /dev && rmdir /tmp/$$ && cd "$OLDPWD" && exec "$@"'
)


@pytest.mark.usefixtures("own_mounts")
def test_info_says_that_there_is_no_shared_memory(tmp_path: Path) -> None:
    prefix = (*UNSHARE, _NO_SHM, "-")
    done = run("info", "--json", cwd=tmp_path, prefix=prefix)
    assert (done.returncode, done.stderr) == (0, "")
    facts = json.loads(done.stdout)
    assert facts["shared_memory_free"] is None
    assert facts["shared_memory"].startswith("none: /dev/shm: No such file or directory")
    assert facts["kvm"]["reason"].startswith("/dev/kvm: no such device here")
    shown = run("info", cwd=tmp_path, prefix=prefix).stdout
    assert "none: /dev/shm: No such file or directory" in shown


@pytest.mark.usefixtures("own_mounts")
def test_a_run_without_shared_memory_is_one_line(folder: Path) -> None:
    done = run("run", "g.py:main", cwd=folder, prefix=(*UNSHARE, _NO_SHM, "-"))
    assert one_line(done, 1).startswith("no shared memory segment for ring of 4096 bytes: ")


@pytest.mark.usefixtures("own_mounts")
@some_heavy("command", every(COMMANDS), lambda command: command in (RUN, ["info"]))
def test_no_proc(folder: Path, command: list[str]) -> None:
    prefix = (*UNSHARE, 'umount -l /proc && exec "$@"', "-")
    works_or_says_why(run(*command, cwd=folder, prefix=prefix), "/proc: expected the proc file")


def test_info_shows_sizes_for_people(tmp_path: Path) -> None:
    lines = run("info", cwd=tmp_path).stdout.splitlines()
    (shown,) = [line for line in lines if "shared memory free" in line]
    assert any(f" {unit} " in shown for unit in ("KiB", "MiB", "GiB", "TiB"))
