"""Both ends of a vCPU in one process: the guest's in a thread, the VMM's in the test."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from coalesced.hv import abi, core, doorbell, outcome, ring
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.errors import PeerDied
from coalesced.hv.zones import Zones
from helpers.hv_oracle import Answer, Event

POLICIES = pytest.mark.parametrize("policy", list(WaitPolicy), ids=lambda p: p.name.lower())
SMALL_RING = abi.KVM_COALESCED_MMIO_RING_HEADER + 5 * abi.KVM_COALESCED_MMIO.itemsize
LIMIT = 60.0  # seconds; nothing here takes a tenth of it unless something hangs

Program = Callable[[core.Vcpu], object]


def segment(name: str, size: int) -> tuple[str, int, int]:
    """Anonymous shared memory, as `hv.core.Mapping` takes it; the caller closes the descriptor."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    os.ftruncate(fd, size)
    return name, fd, size


def set_indices(mapping: core.Mapping, offset: int, first: int, last: int) -> None:
    """Write a ring's two indices from outside."""
    mapping.write(offset, first.to_bytes(4, "little") + last.to_bytes(4, "little"))


def indices(mapping: core.Mapping, offset: int = 0) -> tuple[int, int]:
    """(first, last) as they stand in the ring."""
    raw = mapping.read(offset, 8)
    return int.from_bytes(raw[:4], "little"), int.from_bytes(raw[4:], "little")


class Pair:
    """A `core.Vcpu` and the `core.VcpuHandle` over the same segments, each with its own mapping.

    Leaving the context closes the VMM's ends: a guest that waits gets PeerDied and its thread ends.
    """

    def __init__(
        self,
        policy: WaitPolicy = WaitPolicy.ADAPTIVE,
        *,
        ring_size: int = abi.PAGE_SIZE,
        start: int = 0,
        serve: Callable[[], object] = lambda: None,
    ) -> None:
        """A ring of `ring_size` bytes (0: none) whose indices both stand at `start`."""
        run_size = abi.RUN_PAGES * abi.PAGE_SIZE
        self.segments = [segment("run page", run_size)]
        if ring_size:
            self.segments.append(segment("ring", -(-ring_size // abi.PAGE_SIZE) * abi.PAGE_SIZE))
        self.guest_mapping = core.Mapping(self.segments)
        self.mapping = core.Mapping(self.segments)
        self.ring_offset = run_size
        self.ring_size = ring_size
        if ring_size:
            set_indices(self.mapping, run_size, start, start)
        self.exit_read, self._exit_write = doorbell.pipe()
        self.resume_read, self.resume_write = doorbell.pipe()
        self.vm_ring = core.VmRing(self.guest_mapping, run_size, ring_size) if ring_size else None
        self.ring = ring.Consumer(self.mapping, run_size, ring_size) if ring_size else None
        self._policy, self._serve = policy, serve
        self.make_vcpu()
        self.guest_error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def make_vcpu(self) -> None:
        """Make both sides."""
        self.vcpu = core.Vcpu(
            self.guest_mapping,
            self.vm_ring,
            self._exit_write,
            self.resume_read,
            self._policy,
            self._serve,
        )
        self.handle = core.VcpuHandle(
            self.mapping,
            self.ring.core if self.ring else None,
            self.exit_read,
            self.resume_write,
            -1,
            self._policy,
        )

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.resume_write)
        if self._thread is None:
            os.close(self._exit_write)
        else:
            self._thread.join(LIMIT)
            assert not self._thread.is_alive(), "the guest thread hangs"
        for fd in (self.exit_read, self.resume_read, *(s[1] for s in self.segments)):
            os.close(fd)

    # --- the guest ---

    def start(self, program: Program) -> None:
        """Run the program in a thread once the VMM enters; then halt, as the kernel's part does.

        What it raises stands in `guest_error`, and the VMM finds the exit pipe closed.
        """

        def guest() -> None:
            try:
                self.vcpu.wait_run()
                program(self.vcpu)
                while True:
                    self.vcpu.halt()
            except BaseException as raised:
                self.guest_error = raised
            finally:
                os.close(self._exit_write)

        self._thread = threading.Thread(target=guest, daemon=True)
        self._thread.start()

    def join(self) -> BaseException | None:
        """Wait for the guest's thread; what ended it."""
        assert self._thread is not None
        self._thread.join(LIMIT)
        assert not self._thread.is_alive(), "the guest thread hangs"
        return self.guest_error

    # --- the VMM ---

    def next_exit(self) -> tuple[int, int, int, bool, int]:
        """Enter the guest unless it runs, and wait for its next exit."""
        if not self.handle.running:
            self.handle.enter()
        return self.this_exit()

    def this_exit(self) -> tuple[int, int, int, bool, int]:
        """Wait for the exit of a guest that runs."""
        assert self.handle.wait(LIMIT, False) == outcome.Event.EXITED, "the guest does not exit"
        return self.handle.exit()

    def drain(self) -> list[Event]:
        """Everything published, taken out of the ring."""
        if self.ring is None:
            return []
        batch = self.ring.peek()
        events = [
            Event(0, pio, address, size, True, data)
            for address, size, pio, data in batch[["phys_addr", "len", "pio", "data"]].tolist()
        ]
        self.ring.commit(len(batch))
        return events

    def run(self, program: Program, answer: Answer) -> list[Event]:
        """Run a program to its end, draining before every exit; what the devices saw.

        Raises what the guest raised.
        """
        self.start(program)
        events: list[Event] = []
        while True:
            try:
                reason, address, size, is_write, value = self.next_exit()
            except PeerDied:
                error = self.join()
                assert error is not None
                raise error from None
            events += self.drain()
            if reason == abi.KVM_EXIT_HLT:
                return events
            if reason == abi.KVM_EXIT_INTR:
                continue
            pio = int(reason == abi.KVM_EXIT_IO)
            events.append(Event(reason, pio, address, size, is_write, value))
            if not is_write:
                self.handle.complete(answer(pio, address, size))


def operations(
    program: Sequence[tuple[int, int, int, int]],
) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    """An array for `Vcpu.execute`."""
    return np.array(program, dtype=abi.OP)


def one_by_one(vcpu: core.Vcpu, program: Sequence[tuple[int, int, int, int]]) -> list[int]:
    """Carry the operations out with a call each; what each one's value is afterwards."""
    values = []
    for kind, size, address, value in program:
        if kind == abi.OP_STORE:
            vcpu.store(address, size, value)
            values.append(value)
        elif kind == abi.OP_OUT:
            vcpu.out(address, size, value)
            values.append(value)
        elif kind == abi.OP_LOAD:
            values.append(vcpu.load(address, size))
        else:
            values.append(vcpu.in_(address, size))
    return values


def answer(pio: int, address: int, size: int) -> int:
    """The content of these tests' devices: another value at each place and width."""
    return ((address * 0x9E3779B97F4A7C15) ^ (size << 40) ^ pio) % (1 << 64)


def table(*zones: tuple[int, int]) -> np.ndarray[tuple[int, int], np.dtype[np.uint64]]:
    """The argument of `set_zones`, through the registry of zones."""
    registered = Zones()
    for addr, size in zones:
        registered.register(addr, size)
    return np.array(registered.outermost(), np.uint64).reshape(-1, 2)


def ram(start: int, content: bytes, vcpu: core.Vcpu) -> core.Mapping:
    """Give a vCPU a slot of RAM."""
    part = segment("ram", len(content))
    mapping = core.Mapping([part])
    os.close(part[1])
    mapping.write(0, content)
    vcpu.set_memory(start, mapping)
    return mapping
