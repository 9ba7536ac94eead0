"""A machine whose guest works on demand and is stopped in between."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from coalesced.devices.bus.region import Region
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.process import GuestProcess
from coalesced.tools.bench import host
from coalesced.tools.guests import bench as guest
from coalesced.vmm.accel.process import ProcessAccelerator
from coalesced.vmm.machine import Machine


class Parked:
    """A machine and its guest process, which is stopped but for the blocks of `awake`."""

    def __init__(
        self,
        ring_pages: int = 1,
        policy: WaitPolicy = WaitPolicy.ADAPTIVE,
        placement: str | None = None,
        *,
        vcpus: int = 1,
        reserve: bool = True,
        coalesce: bool = True,
        staleness: float | None = None,
    ) -> None:
        """`placement`: "split", "same" or "any", None: the first that this machine has."""
        placement = placement or host.placements()[0]
        process = GuestProcess()
        accel = ProcessAccelerator(process, ring_pages, policy, placement, vcpus, reserve)
        accel.put_cpus_back()
        self.machine = Machine(accel, coalesce=coalesce, staleness=staleness)
        self.pid = process.pid
        self.command = 0
        """The value that the guest reads at guest.CONTROL."""
        self._cpus = None if placement == "any" else host.cpus_of(placement)

    @contextmanager
    def building(self, name: str, arguments: Mapping[str, object] | None = None) -> Iterator[None]:
        """Add the machine's parts within the block; the guest is loaded and stopped after it.

        An exception of either closes the machine.
        """
        machine = self.machine
        try:
            with machine.memory.changing(), machine.ports.changing():
                yield
            machine.accel.load_guest(name, arguments or {})
        except BaseException:
            machine.close()
            raise
        host.park(self.pid)

    def add_control(self) -> None:
        """Map a page at guest.CONTROL: the guest's command, and registers that read as 0."""
        region = Region("bench-control", guest.REGISTERS_SIZE, self.read_control, ignore)
        self.machine.memory.map(region, guest.CONTROL)

    def read_control(self, offset: int, _size: int) -> int:
        """A load from that page."""
        return 0 if offset else self.command

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Let the guest process run within the block, each side on its CPU."""
        with ExitStack() as stack:
            ours, theirs = self._cpus or (None, None)
            if ours is not None:
                stack.enter_context(host.on_cpu(ours))
            stack.enter_context(host.awake(self.pid, theirs))
            yield

    def resume(self) -> int:
        """Let the guest run until it halts; returns nanoseconds."""
        with self.awake():
            started = time.monotonic_ns()
            self.machine.resume()
            return time.monotonic_ns() - started

    def close(self) -> None:
        """End the guest process and the machine."""
        self.machine.close()


def ignore(_offset: int, _size: int, _value: int) -> None:
    """Do nothing with a write."""
