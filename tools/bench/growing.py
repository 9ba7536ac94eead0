"""VMs whose parts grow in number or size: what `bench growth` measures at each size."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

from coalesced.devices.bus.device import StateValue
from coalesced.devices.bus.region import Region
from coalesced.devices.bus.write_run import WriteRun
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.process import GuestProcess
from coalesced.tools.bench import host
from coalesced.tools.guests import bench as guest
from coalesced.vmm.accel.process import ProcessAccelerator
from coalesced.vmm.machine import Machine

WRITE, EXIT, START, RESERVE = "write_ns", "exit_ns", "start_ms", "reserve_ms"
_GUEST: Final = "coalesced.tools.guests.bench:growth"
_OTHERS: Final = (0xC000_0000, 1 << 36)  # regions that no access hits: below, above the one hit
_RAM: Final = 1 << 40  # out of the way of the regions

Subjects = Mapping[str, Callable[[], float]]
"""The measurements of a size, by cost."""


class Sizes(NamedTuple):
    """The size of a measurement; operations per repetition."""

    repetitions: int
    writes: int
    exits: int
    frames: int
    seconds: float


@dataclass(frozen=True)
class Shape:
    """A VM by the numbers and sizes of its parts."""

    zones: int = 1  # of each device
    regions: int = 1
    devices: int = 1
    ring_pages: int = 1
    ram_mib: int = 0
    ram_unreserved_mib: int = 0
    ram_slots: int = 0  # of a page each


def of_shape(key: str, size: int, sizes: Sizes, stack: ExitStack) -> Subjects:
    """The costs of a VM of which one part has a size; `stack` ends it."""
    shape = Shape(**{key: size})
    if key == "ram_mib":  # large RAM is there for one measurement at a time
        return {cost: partial(started, shape, cost, sizes.exits) for cost in (EXIT, START, RESERVE)}
    vm = Growing(shape)
    stack.callback(vm.machine.close)
    return {
        WRITE: partial(vm.measure, guest.WRITES, sizes.writes),
        EXIT: partial(vm.measure, guest.LOADS, sizes.exits),
        START: partial(started, shape, START, sizes.exits),
    }


class Growing:
    """A VM of a shape, whose guest writes or exits on demand."""

    def __init__(self, shape: Shape) -> None:
        placement = host.placements()[0]
        process = GuestProcess()
        accel = ProcessAccelerator(
            process,
            shape.ring_pages,
            WaitPolicy.ADAPTIVE,
            placement,
            reserve=not shape.ram_unreserved_mib,
        )
        accel.put_cpus_back()
        self.machine = Machine(accel)
        self._pid = process.pid
        self._cpus = host.cpus_of(placement)
        self._command = 0
        self.reserving_ms = 0.0
        """How long the RAM took to reserve and to map."""
        try:
            self._build(shape)
            accel.load_guest(_GUEST, {"zones": shape.zones * shape.devices})
        except BaseException:
            self.machine.close()
            raise
        host.park(self._pid)

    def _build(self, shape: Shape) -> None:
        began = time.monotonic_ns()
        if mib := shape.ram_mib or shape.ram_unreserved_mib:
            self.machine.add_ram(_RAM, mib << 20)
        self.reserving_ms = (time.monotonic_ns() - began) / 1e6
        for slot in range(shape.ram_slots):
            self.machine.add_ram(_RAM + (slot << 20), 4096)
        for number in range(1, shape.regions):
            base = _OTHERS[number % 2] + number * 0x2000
            other = Region(f"bench-{number}", 0x1000, self._read, ignore)
            self.machine.memory.map(other, base)
        control = Region("bench-control", guest.QUEUE - guest.CONTROL, self._read, ignore)
        self.machine.memory.map(control, guest.CONTROL)
        for number in range(shape.devices):
            device = Queued(f"bench-growth-{number}", shape.zones)
            self.machine.add_device(device)
            self.machine.memory.map(device.region, guest.QUEUE + number * device.region.size)

    def measure(self, what: int, count: int) -> float:
        """Nanoseconds per operation, mean of `count`; `what`: guest.WRITES or guest.LOADS."""
        self._command = count | what << 32
        with host.on_cpu(self._cpus[0]), host.awake(self._pid, self._cpus[1]):
            started = time.monotonic_ns()
            self.machine.resume()
            return (time.monotonic_ns() - started) / count

    def _read(self, offset: int, _size: int) -> int:
        return 0 if offset else self._command


class Queued:
    """A device whose writes are queued and come to nothing."""

    def __init__(self, name: str, zones: int) -> None:
        self.name = name
        self.region = Region(
            name,
            zones * guest.APART,
            lambda _offset, _size: 0,
            ignore,
            coalesced=tuple((zone * guest.APART, 1) for zone in range(zones)),
            take_run=_take_run,
        )

    def reset(self) -> None:
        """Nothing to reset."""

    def state(self) -> Mapping[str, StateValue]:
        return {}


def ignore(_offset: int, _size: int, _value: int) -> None:
    """Do nothing with a write."""


def _take_run(run: WriteRun) -> int:
    return len(run.addresses)


def started(shape: Shape, cost: str, exits: int) -> float:
    """A cost of a VM that is started for it and closed.

    START: milliseconds from nothing until its guest has halted; RESERVE: of these, for its RAM;
    EXIT: nanoseconds, mean of `exits`.
    """
    began = time.monotonic_ns()
    vm = Growing(shape)
    with closing(vm.machine):
        if cost == EXIT:
            return vm.measure(guest.LOADS, exits)
        vm.measure(guest.LOADS, 1)
        whole = (time.monotonic_ns() - began) / 1e6
        return vm.reserving_ms if cost == RESERVE else whole
