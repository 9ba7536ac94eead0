"""The ring, the vCPU and waiting, in C11 (hv/core/).

Arrays cross as buffers; whoever raises SegmentError found a segment truncated by another process.
"""

from collections.abc import Callable, Sequence
from typing import Any, final

from numpy.typing import NDArray
from typing_extensions import Buffer

from coalesced.hv.outcome import Event, Exit, Outcome

Array = NDArray[Any]

RUN_WORDS_OFFSET: int
EXIT_SEQUENCE: int
POSTED_SEQUENCE: int
VMM_NEED_WAKEUP: int
RESUME_SEQUENCE: int
HV_NEED_WAKEUP: int
REQUEST_SEQUENCE: int
IRQ_LINES: int
FIRST_OPERATION: int
WAITS_OFFSET: int
WAITS_SIZE: int

KEEP_WRITES: int
WATCH_RING: int
WATCH_DESCRIPTOR: int
WATCH_POSTED: int
POSTED_APART: int

def die_with_parent() -> int:
    """Ask for SIGKILL when the parent ends; the parent's process id."""

def is_shared_memory(fd: int, /) -> bool:
    """Whether a descriptor refers to POSIX shared memory or a memfd."""

@final
class Mapping(Buffer):
    """Shared-memory segments mapped side by side, a writable buffer."""

    def __new__(cls, segments: Sequence[tuple[str, int, int]]) -> Mapping:
        """Map 1 to 4 (name, descriptor, size in bytes); sizes are multiples of 4096."""
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def read(self, offset: int, size: int, /) -> bytes: ...
    def write(self, offset: int, data: bytes | bytearray | memoryview, /) -> None: ...
    def check(self) -> None:
        """Raise SegmentError if a part was truncated since it was mapped."""

@final
class Producer:
    """The producer's end of the ring in `size` bytes at `offset` of a mapping."""

    slots: int
    def __new__(cls, mapping: Mapping, offset: int, size: int) -> Producer: ...
    def append(self, phys_addr: int, len: int, data: int, pio: bool = False) -> bool:
        """Append an entry without publishing it; False when the ring is full."""
    def publish(self) -> None:
        """Publish the appended entries."""

@final
class Bell:
    """An end of a shared ring as its owner, which waits for the other end."""

    life_fd: int
    signals: int
    def __new__(cls, mapping: Mapping, fd: int, produces: bool) -> Bell:
        """Become the owner; `fd`: this side's socket. Raises RingBusy."""
    def attach_end(self, end: Producer | Consumer, /) -> None:
        """The ring's end, made after this object."""
    def close(self) -> None:
        """Close the end and wake the other one; in a fork of its process, forget it."""
    def check(self) -> None:
        """Raise RingClosed or RingBusy when the end cannot be used any more."""
    def append(self, address: int, len: int, data: int, pio: bool, /) -> bool:
        """As `check`, append an entry, publish it and wake; False when the ring is full."""
    def extend(self, entries: Array, start: int, /) -> int:
        """As `append`, for the entries from number `start` on; the number to go on with.

        From 0 on, raises ValueError for one that the consumer would refuse before any is appended.
        """
    def commit(self, count: int, /) -> None:
        """As `check`, give the slots of `count` peeked entries back and wake the producer."""
    def take(self, timeout: float | None, most: int | None, /) -> bytearray:
        """`wait`, and take the published entries, `most` at most; empty at the timeout."""
    def wait(self, timeout: float | None, /) -> bool:
        """Wait for entries or for room; False at the timeout. Raises RingClosed, PeerDied."""
    def arm(self) -> bool:
        """Announce a sleep until `fd` or `life_fd` is readable; False when there is news."""
    def disarm(self) -> None:
        """The sleep is over."""

@final
class Consumer(Buffer):
    """The consumer's end of the ring in `size` bytes at `offset` of a mapping.

    As a buffer, read-only: the batch, room for as many 24-byte entries as the ring has slots, then
    as many offsets and as many values, 8 bytes each.
    """

    slots: int
    def __new__(cls, mapping: Mapping, offset: int, size: int) -> Consumer: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def peek(self, most: int = ..., /) -> int:
        """Copy the published entries, `most` at most, checked, to the batch's start; how many."""
    def rebase(self, base: int, start: int, stop: int, /) -> None:
        """Put phys_addr less `base`, modulo 2**64, of the peeked entries [start, stop) among the
        offsets, and their data among the values."""
    def commit(self, count: int, /) -> int:
        """Give the slots of the oldest `count` peeked entries back; how many seen ones are left."""
    def follow(self) -> None:
        """Count how long entries wait, by the guest's notes in page 0 of the mapping."""
    def waits(
        self,
    ) -> tuple[int, int, int, int, bool, list[tuple[int, int, bool, int, int]]] | None:
        """(p50, p99, longest wait in ns, its address, port?, what a guest slept on).

        The latter: (first, last byte, port?, writes, longest wait in ns). None: not known.
        """
    def pending(self) -> int:
        """Number of entries that are published and not committed."""
    def restart(self) -> None:
        """Take the ring up anew, where its indices stand. Raises ProtocolError."""
    def own(self, fd: int, /) -> None:
        """It is a device's own, and `fd`, not closed here, its descriptor; -1: no longer.

        Page 0 of the mapping has the words of hv/core/own_ring.h.
        """
    def answer(self) -> None:
        """Empty the descriptor; a `peek` follows. `peek` does so itself when it has to."""

@final
class VmRing:
    """A ring of a VM in `size` bytes at `offset` of a mapping, for its vCPUs.

    The mapping begins with the page that takes the notes about waits: the run segment of the first
    vCPU, or the words of an own ring.
    """

    def __new__(cls, mapping: Mapping, offset: int, size: int) -> VmRing: ...
    def restart(self) -> None:
        """Take the ring up anew, where its indices stand; no vCPU runs. Raises ProtocolError."""
    def share(self) -> None:
        """From now on several vCPUs append, each under a lock; none of them runs at this call."""
    def own(self, fd: int, wake_at: int, /) -> None:
        """It is a device's own: `fd`, not closed here, is written when `wake_at` entries wait."""

@final
class Vcpu:
    """The guest's processor, run by the kernel's part. Sizes in bytes, `pio` 0 or 1."""

    coalesced: int
    exits: int
    several: bool
    """There are other vCPUs: while this one runs its zones and memory cannot change (EBUSY)."""
    signals: int
    publish_every: int
    def __new__(
        cls,
        mapping: Mapping,
        ring: VmRing | None,
        exit_fd: int,
        resume_fd: int,
        policy: int,
        serve: Callable[[], object],
        first: Mapping = ...,
    ) -> Vcpu:
        """`mapping`: it begins with the run segment. `serve()` answers requests.

        `first`: of the first vCPU, if that is another one: there the VMM announces its sleep.
        """
    def load(self, address: int, size: int, /) -> int: ...
    def store(self, address: int, size: int, value: int, /) -> None: ...
    def in_(self, port: int, size: int, /) -> int: ...
    def out(self, port: int, size: int, value: int, /) -> None: ...
    def execute(self, ops: Array, /) -> None: ...
    def store_many(self, addresses: Array, size: int, values: Array, /) -> None: ...
    def fill(self, address: int, size: int, count: int, value: int, /) -> None: ...
    def read_memory(self, address: int, size: int, /) -> bytearray: ...
    def write_memory(self, address: int, data: bytes | bytearray | memoryview, /) -> None: ...
    def wait_interrupt(self, lines: int, timeout: float | None, /) -> int: ...
    def restart(self, policy: int, /) -> None:
        """Be as a new vCPU, with the memory, zones and rings of this one.

        The words of its run segment are zeroed already. Raises RuntimeError during an access.
        """
    def wait_run(self) -> None:
        """Wait until the VMM enters the guest."""
    def halt(self) -> None:
        """Exit with KVM_EXIT_HLT; returns when the VMM enters again."""
    def system_event(self, type: int, /) -> None:
        """Exit with KVM_EXIT_SYSTEM_EVENT."""
    def set_rings(self, rings: tuple[VmRing, ...], /) -> None:
        """The rings of devices' own, 64 at most. All zones go: they have to be set again."""
    def set_zones(
        self, pio: int, pairs: Array | Buffer, posted: bytes = b"", rings: bytes = b"", /
    ) -> None:
        """(first, last) addresses as uint64, both ascending.

        `posted`, `rings`: a byte for each, or none: whether it is posted, and the place of its ring
        among those of `set_rings`, from 1 on; 0: the VM's.
        """
    def set_events(self, pio: int, ioeventfds: bytes, /) -> None:
        """All ioeventfds of a kind, as `hv.abi.HV_EVENT`."""
    def set_memory(self, start: int, mapping: Mapping, readonly: bool = False, /) -> None: ...
    def clear_memory(self) -> None: ...

@final
class Cpu:
    """Machine code executed by Unicorn: a processor of 32 bits whose exits are its vCPU's."""

    def __new__(cls, vcpu: Vcpu, library: str, cpuid: bytes) -> Cpu:
        """`library`: path of libunicorn. Raises HostError when it cannot be used.

        `cpuid`: five u32 for each function: its number, EAX, EBX, ECX and EDX.
        """
    def run(self) -> str:
        """Execute until it cannot go on; the reason. Raises what accesses of the vCPU raise."""
    def next_code(self) -> tuple[int, bool]:
        """The linear address of the next instruction, and whether it is 32-bit code."""
    def read(self, address: int, size: int) -> bytes | None:
        """RAM or ROM at a linear address; None where there is neither."""
    def registers(self) -> dict[str, int]:
        """The registers by name, "eax" to "cr3"."""

@final
class VcpuHandle:
    """A vCPU as its VMM sees it."""

    first_operation: int
    signals: int
    running: bool
    resetting: bool
    def __new__(
        cls,
        mapping: Mapping,
        ring: Consumer | None,
        exit_fd: int,
        resume_fd: int,
        life_fd: int,
        policy: int,
        first: Mapping = ...,
    ) -> VcpuHandle:
        """`first`: of the first vCPU, if that is another one: there the VMM announces its sleep."""
    def enter(self) -> None:
        """Let the guest continue; clears a kick."""
    def wait(self, timeout: float | None, watch: int, due: float | None = None, /) -> Event:
        """Wait at most `timeout` seconds (None: no limit). `watch`: WATCH_* bits, or 0.

        RING_FILLED is returned while the ring is watched and holds entries, with WATCH_POSTED also
        once after posted writes, unless an exit follows them at once: the ring is drained for that.
        With POSTED_APART beside it they are reported nevertheless, and before the exit: they may be
        in a ring that the exit does not drain. READABLE: while the descriptor is watched. `due`:
        seconds of CLOCK_MONOTONIC after which it is TIMED_OUT, too. A guest that exits all the
        time delays neither: the next call returns its exit. Raises PeerDied when the guest
        process has ended, ProtocolError for a wrong sequence.
        """
    def watch(self, fd: int, /) -> None:
        """The descriptor of WATCH_DESCRIPTOR; -1: none."""
    def close(self) -> None:
        """Give back what watches the pipes, before they are closed."""
    def run(self, timeout: float | None, watch: int, due: float | None = None, /) -> Outcome:
        """`enter` unless it runs, `wait`, and for EXITED `exit`.

        A load that is not completed is returned again, and with KEEP_WRITES a write that `enter`
        has not taken.
        """
    def exit(self) -> Exit:
        """(exit_reason, address or port, size, is_write, value) of the last exit, checked.

        Of HLT, value is the interrupt flag.
        """
    def complete(self, value: int, /) -> None:
        """The result of the load that exited."""
    def set_irq(self, line: int, level: bool, /) -> None: ...
    def request(self) -> None:
        """Announce a request on the control socket."""
    def kick(self) -> None:
        """Make the guest exit with KVM_EXIT_INTR before its next operation."""
    def pause(self) -> None:
        """`kick` a running guest and wait; `run` returns an exit of its own that came first."""
    def interrupt_window(self, wanted: bool, /) -> None:
        """Have the guest exit with KVM_EXIT_IRQ_WINDOW_OPEN as soon as it takes interrupts."""
    def interrupt(self, vector: int, /) -> None:
        """The interrupt that the guest's processor takes when it is entered, 0 to 255."""
    def restart(self, policy: int, /) -> None:
        """Reset to a new handle, of a restarted vCPU; its end of the ring does not change."""
    def reset(self) -> None:
        """Reset the guest's processor when it is entered."""
    def note_written(self, address: int, size: int, /) -> None:
        """A device has written to RAM, where code may lie."""

@final
class VcpuHandles:
    """The vCPUs of a VM as its VMM waits for them, in one place and fair among them."""

    def __new__(cls, handles: tuple[VcpuHandle, ...]) -> VcpuHandles:
        """`handles`: of all vCPUs in order. Raises ValueError for none, or more than 8."""
    def run(self, timeout: float | None, watch: int, due: float | None = None, /) -> Outcome:
        """Enter all that are stopped and not parked, then wait as `VcpuHandle.run`.

        Of several that have exited, the one behind the last that was returned comes first.
        """
    def complete(self, value: int, /) -> None:
        """The result of the load whose exit was returned last."""
    def enter(self) -> None:
        """Let the vCPU whose exit was returned last continue."""
    def park(self) -> bool:
        """Do not enter the vCPU whose exit was returned last: it has halted.

        False when all others are parked, too; then none is any more.
        """

@final
class KvmHandle:
    """A vCPU of the real KVM: `mapping` of its descriptor's kvm_run, port data and ring."""

    def __new__(cls, mapping: Mapping, fd: int) -> KvmHandle: ...
    def run(self, timeout: float | None, /) -> Outcome:
        """KVM_RUN: the next exit as `VcpuHandle.exit` gives it; TIMED_OUT after `timeout` seconds.

        The guest gets 0.2 ms at least, so that it makes progress when timers are always due.
        The accesses of a string instruction are returned one by one. A reason other than MMIO, IO,
        HLT and INTR comes with zeros. Raises OSError, ProtocolError.
        """
    def complete(self, value: int, /) -> None:
        """The result of the load that exited."""
    def finish(self) -> Exit | None:
        """End the instruction that exited without running the next.

        Returns the exit that this causes, if any: the rest of an access that crosses a page.
        """
    def keep_writes(self) -> None:
        """From now on `run` returns a write again until `enter` has taken it."""
    def enter(self) -> None:
        """Mark the exit as handled; the next `run` lets the guest continue."""
    def interrupt_window(self, wanted: bool, /) -> None:
        """Have the guest exit with KVM_EXIT_IRQ_WINDOW_OPEN as soon as it takes interrupts."""
    def close(self) -> None:
        """Stop all timers that signal a thread, until the next `run`."""

class KvmThreads:
    """The vCPUs of a VM of the real KVM, each in KVM_RUN in a thread of its own.

    The methods but `close` are for one thread; the vCPUs must not be run otherwise. They raise
    RuntimeError after `close`, and in a fork of the process, which has none of the threads.
    """

    def __new__(cls, handles: tuple[KvmHandle, ...]) -> KvmThreads:
        """`handles`: of all vCPUs in order. Raises ValueError for none, or more than 8; HostError
        when there is no room for a thread."""
    @property
    def current(self) -> int:
        """The index of the vCPU that exited last. Raises RuntimeError before the first exit."""
    def run(self, timeout: float | None, /) -> Outcome:
        """Enter those that are outside and not parked; the next exit, as `KvmHandle.run` gives it.

        The others run on. An exit for an access that a handle keeps, and HLT, is returned again
        until it is dealt with. TIMED_OUT after `timeout` seconds. Raises OSError, ProtocolError.
        """
    def complete(self, value: int, /) -> None:
        """The result of the load that exited last."""
    def enter(self) -> None:
        """The exit that `run` returned last is handled; let that vCPU continue at once."""
    def park(self) -> bool:
        """Do not enter the vCPU that exited last; False, and none is parked, when it was the last
        one."""
    def pause(self) -> None:
        """Have all leave KVM_RUN, until the next `run`. An exit that came first is kept for it."""
    def restart(self) -> None:
        """As `pause`, and all begin anew: none is parked, no exit is kept."""
    def close(self) -> None:
        """End the threads; may be called twice."""

calls: object
"""The functions of a VcpuHandle for other extensions (calls.h)."""
