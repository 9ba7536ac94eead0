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
from coalesced.tools.bench.parked import Parked, ignore
from coalesced.tools.guests import bench as guest

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
    vm = stack.enter_context(closing(Growing(shape)))
    return {
        WRITE: partial(vm.measure, guest.WRITES, sizes.writes),
        EXIT: partial(vm.measure, guest.LOADS, sizes.exits),
        START: partial(started, shape, START, sizes.exits),
    }


class Growing(Parked):
    """A VM of a shape, whose guest writes or exits on demand."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape.ring_pages, reserve=not shape.ram_unreserved_mib)
        self.reserving_ms = 0.0
        """Time to reserve and to map the RAM."""
        with self.building(_GUEST, {"zones": shape.zones * shape.devices}):
            self._build(shape)

    def _build(self, shape: Shape) -> None:
        began = time.monotonic_ns()
        if mib := shape.ram_mib or shape.ram_unreserved_mib:
            self.machine.add_ram(_RAM, mib << 20)
        self.reserving_ms = (time.monotonic_ns() - began) / 1e6
        for slot in range(shape.ram_slots):
            self.machine.add_ram(_RAM + (slot << 20), 4096)
        for number in range(1, shape.regions):
            base = _OTHERS[number % 2] + number * 0x2000
            other = Region(f"bench-{number}", 0x1000, self.read_control, ignore)
            self.machine.memory.map(other, base)
        self.add_control()
        for number in range(shape.devices):
            device = Queued(f"bench-growth-{number}", shape.zones)
            self.machine.add_device(device)
            self.machine.memory.map(device.region, guest.QUEUE + number * device.region.size)

    def measure(self, what: int, count: int) -> float:
        """Nanoseconds per operation, mean of `count`; `what`: guest.WRITES or guest.LOADS."""
        self.command = count | what << 32
        return self.resume() / count


class Queued:
    """A device whose writes are queued and ignored."""

    def __init__(self, name: str, zones: int) -> None:
        self.name = name
        self.region = Region(
            name,
            zones * guest.APART,
            lambda _offset, _size: 0,
            ignore,
            coalesced=tuple((zone * guest.APART, 1) for zone in range(zones)),
            take_run=len,
        )

    def reset(self) -> None:
        """Nothing to reset."""

    def state(self) -> Mapping[str, StateValue]:
        return {}


def started(shape: Shape, cost: str, exits: int) -> float:
    """A cost of a VM that is started for it and closed.

    START: milliseconds from nothing until its guest has halted; RESERVE: of these, for its RAM;
    EXIT: nanoseconds, mean of `exits`.
    """
    began = time.monotonic_ns()
    vm = Growing(shape)
    with closing(vm):
        if cost == EXIT:
            return vm.measure(guest.LOADS, exits)
        vm.measure(guest.LOADS, 1)
        whole = (time.monotonic_ns() - began) / 1e6
        return vm.reserving_ms if cost == RESERVE else whole
