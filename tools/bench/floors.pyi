"""The cost of the measured shapes in bare C (floors.c), two processes each.

CPUs are numbers, -1 for anywhere: `here` is this process's, `there` the other one's. Each function
takes this thread's affinity for its time and puts it back, and does not look for signals meanwhile.
Raises OSError (no process, no pipe, no such CPU) and RuntimeError (the other process failed).
"""

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

def ring(entries: int, pages: int, publish_every: int, here: int, there: int, /) -> float:
    """Append and drain `entries` 24-byte entries: nanoseconds per entry."""

def ring_alone(entries: int, pages: int, publish_every: int, here: int, /) -> float:
    """The same in one thread: append `publish_every` or until full, drain."""

def ping_pong(kind: str, count: int, here: int, there: int, each: Array | None = None, /) -> float:
    """Wake the other side and be woken by it: nanoseconds per round trip.

    By `pipe`, `ppoll` (of a pipe, which is then read), `eventfd`, `socketpair` or `futex`, or
    `spin`: both sides look at shared memory.
    `each`: room for `count` uint64, the nanoseconds of each round trip.
    """

def producers(
    producers: int, pages: int, batch: int, own: bool, seconds: float, /
) -> tuple[float, float]:
    """Let 1 to 8 threads append for `seconds`, `batch` entries per publication, and drain them.

    To one ring under its lock, taken once per batch, or to rings of their `own` without one. All
    threads run on any CPU. Returns nanoseconds per entry of all, and the least number of entries
    of a thread over the greatest.
    """

def channel(
    kind: str, calls: int, batch: int, here: int, there: int, each: Array | None = None, /
) -> float:
    """Send and receive `calls` batches of 1 to 64 24-byte entries: nanoseconds per entry.

    Through a `ring` at which the receiver looks again and again, a ring with an `eventfd` that is
    written for each batch and wakes, a `pipe`, a `socketpair` or a POSIX message `queue`. `each`:
    room for `calls` uint64, the nanoseconds from the start of each call until it is received;
    there are 50 us between two calls then.
    """

def stamper(times: Array, /) -> Callable[[int, int], int]:
    """A device's load handler in C that reads as 0 and notes when it is called.

    `times`: uint64, the first how many follow, then CLOCK_MONOTONIC ns. What has no room is lost.
    """

def kvm(fd: int, size: int, ring_offset: int, /) -> float:
    """Run a vCPU of KVM until it halts, draining its ring at every exit: nanoseconds.

    `size` bytes of the vCPU's descriptor `fd` hold kvm_run, and the ring at `ring_offset`. Loads
    get 0. OSError with EPROTO: an exit that is neither an access nor a halt.
    """
