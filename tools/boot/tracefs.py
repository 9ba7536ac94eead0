"""The kernel's tracepoints of KVM, read from a tracefs instance of our own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from coalesced.tools.errors import BadInput

ROOTS: Final = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
EVENTS: Final = ("kvm_mmio", "kvm_pio", "kvm_userspace_exit")
BUFFER_KIB: Final = 16384  # of each CPU
_AT_ONCE: Final = 1 << 20
# Waits for the end of this process, however it comes, and removes the instance.
_CARETAKER: Final = (
    'read -r _; n=0; while [ -d "$0" ] && ! rmdir "$0" && [ $n -lt 100 ]; '
    "do n=$((n+1)); sleep 0.1; done 2>/dev/null"
)


def root() -> Path:
    """The mount point of tracefs, with KVM's tracepoints. Raises BadInput."""
    if os.geteuid():
        raise BadInput(
            "--against qemu: only root can read the kernel's tracepoints: run the command as "
            "root, or record elsewhere and use --against FILE"
        )
    found = next((each for each in ROOTS if os.path.isdir(each / "instances")), None)
    if found is None:
        raise BadInput(
            f"--against qemu: no tracefs at {ROOTS[0]}: mount -t tracefs tracefs {ROOTS[0]}"
        )
    if not (found / "events/kvm/kvm_mmio").is_dir():
        raise BadInput(f"--against qemu: no tracepoint kvm_mmio in {found}: is kvm loaded?")
    return found


class Instance:
    """An instance that records the tracepoints of some threads."""

    def __init__(self, path: Path, threads: Sequence[int]) -> None:
        self._path = path
        self._write("trace_clock", "mono")  # one clock for all CPUs
        self._write("buffer_size_kb", str(BUFFER_KIB))
        self._write("set_event_pid", " ".join(map(str, threads)))
        for event in EVENTS:
            self._write(f"events/kvm/{event}/enable", "1")
        self._fd = os.open(path / "trace_pipe", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._rest = b""

    def _write(self, name: str, text: str) -> None:
        try:
            (self._path / name).write_text(text)
        except OSError as error:
            raise BadInput(f"--against qemu: {self._path / name}: {error.strerror}") from error

    def take(self) -> bytes:
        """The whole lines that have come since the last call."""
        parts = [self._rest]
        with suppress(BlockingIOError):
            while part := os.read(self._fd, _AT_ONCE):
                parts.append(part)
        whole, newline, self._rest = b"".join(parts).rpartition(b"\n")
        return whole + newline

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)


@contextmanager
def instance(threads: Sequence[int]) -> Iterator[Instance]:
    """An instance, removed at the end, also when this process is killed. Raises BadInput."""
    path = root() / "instances" / f"coalesced-{os.getpid()}-{os.urandom(4).hex()}"
    caretaker = subprocess.Popen(
        ["/bin/sh", "-c", _CARETAKER, path], stdin=subprocess.PIPE, start_new_session=True
    )
    assert caretaker.stdin is not None
    try:
        try:
            path.mkdir()
        except OSError as error:
            raise BadInput(f"--against qemu: {path}: {error.strerror}") from error
        made = Instance(path, threads)
        try:
            yield made
        finally:
            made.close()
    finally:
        caretaker.stdin.close()  # it removes the instance
        caretaker.wait()
