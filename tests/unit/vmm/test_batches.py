"""A batch out of a ring does what the same writes do one by one, to memory and ports in turns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coalesced.devices.bus.address_space import Mapping
from coalesced.devices.bus.region import Region
from coalesced.devices.bus.write_run import WriteRun
from coalesced.hv.abi import KVM_COALESCED_MMIO
from coalesced.vmm.exits import SHORTEST_RUN, Routes
from coalesced.vmm.machine import Machine
from helpers.vmm_fake import FakeAccelerator, Queued, Recorder

BASE, SIZE = 0x300, 0x40  # of what is accessed in both spaces
RAISE, FLUSH, LOOK, MAP, UNMAP, QUEUE = range(0xE0, 0xE6)  # values that the devices obey

Layout = Sequence[tuple[bool, int, int, bool]]  # port?, offset, size, whether it takes runs


def nothing(*_: object) -> None:
    """Nothing to do."""


class Side:
    """A machine with devices on both spaces, and the ring of its guest."""

    def __init__(self, layout: Layout) -> None:
        self.accel = FakeAccelerator()
        self.machine = Machine(self.accel)
        self.log: list[object] = []
        self.above: list[Mapping] = []
        for number, (port, offset, size, takes_runs) in enumerate(layout):
            space = self.machine.ports if port else self.machine.memory
            space.map(self.region(f"device {number}", size, takes_runs), BASE + offset)

    def region(self, name: str, size: int, takes_runs: bool) -> Region:
        device = Recorder(name, size, on_write=self.obey, log=self.log)  # type: ignore[arg-type]

        def take_run(run: WriteRun) -> int:
            """Some of the writes, up to one that does more than others."""
            writes = run.entries()
            addresses, sizes, _ = zip(*writes, strict=True)
            assert run.size == (0 if len(set(sizes)) > 1 else sizes[0])
            assert run.span == (
                min(addresses),
                max(map(sum, zip(addresses, sizes, strict=True))) - 1,
            )
            for taken, write in enumerate(writes[: size // 2]):
                if taken and write[2] & 0xFF >= RAISE:
                    return taken
                device.write(*write)
                if write[2] & 0xFF >= RAISE:
                    return taken + 1
            return min(len(writes), size // 2)

        take = take_run if takes_runs else None
        return Region(name, size, device.read, device.write, take_run=take)

    def obey(self, _offset: int, value: int) -> None:
        machine, order = self.machine, value & 0xFF
        if order == RAISE:
            raise ValueError(f"refused {value:#x}")
        if order == FLUSH:
            self.log.append(machine.flush())
        if order == LOOK:
            machine.queues[0].look()
        if order == MAP and not self.above:
            hidden = [
                self.region(name, 0x18, name == "over ports") for name in ("over", "over ports")
            ]
            for region, space in zip(hidden, (machine.memory, machine.ports), strict=True):
                self.above.append(space.map(region, BASE + 0x14, priority=1))
        if order == UNMAP and self.above:
            machine.memory.unmap(self.above[0])
            machine.ports.unmap(self.above[1])
            self.above.clear()

    def outcome(self) -> tuple[object, ...]:
        spaces = self.machine.memory, self.machine.ports
        unassigned = [dict(space.unassigned_accesses) for space in spaces]
        counters = self.machine.counters
        return self.log, counters.failures, counters.failed_writes, counters.writes, unassigned


def cut(write: Queued) -> Queued:
    return write._replace(value=write.value & (1 << 8 * write.size) - 1)


near = st.integers(BASE - 4, BASE + SIZE + 4)
values = st.integers(0, (1 << 32) - 1) | st.sampled_from(range(RAISE, QUEUE))
sizes = st.sampled_from([1, 1, 2, 4, 8, 3])
single = st.builds(Queued, near, sizes, values, st.booleans()).map(cut).map(lambda w: [w])
runs = st.builds(
    lambda start, count, size, value, port: [
        cut(Queued(BASE + (start + i) % SIZE, size, value + i, port)) for i in range(count)
    ],
    st.integers(0, SIZE - 1),
    st.integers(2, 2 * SHORTEST_RUN),
    sizes,
    values,
    st.booleans(),
)
drained = st.lists(single | runs, min_size=1, max_size=10).map(
    lambda parts: [write for part in parts for write in part]
)
layouts = st.lists(
    st.tuples(st.booleans(), st.integers(0, SIZE - 1), st.integers(1, SIZE), st.booleans()),
    max_size=6,
)


EVERYWHERE = [(port, 0, SIZE, True) for port in (False, True)]
IN_TURNS = [Queued(BASE, 1, number, number % 2 == 1) for number in range(20)]
IN_ONE_RUN = [Queued(BASE, 1, number) for number in range(20)]
IN_A_LATER_RUN = [*IN_TURNS[:4], *IN_ONE_RUN[4:]]


@pytest.mark.slow
@settings(max_examples=300)
@given(layouts, st.lists(drained, min_size=1, max_size=3))
@example([(True, 0, SIZE, True), (False, 0, SIZE, False)], [[Queued(BASE, 1, MAP, True)] * 20])
@example(EVERYWHERE, [IN_TURNS, IN_ONE_RUN, IN_A_LATER_RUN])
def test_batches_of_a_ring_equal_single_writes(layout: Layout, batches: list[list[Queued]]) -> None:
    batch, scalar = Side(layout), Side(layout)
    for writes in batches:
        batch.accel.put(*writes)
        assert batch.machine.flush() == len(writes)
        for address, size, value, port in writes:
            scalar.machine.write_one(port, address, size, value)
        assert batch.outcome() == scalar.outcome()


def test_a_hostile_guest_changes_nothing_of_a_batch_that_is_underway() -> None:
    """A device that looks into the ring sees the batch, and the slots are not read again."""
    side = Side([])
    ring, third = side.accel.queue, 8 + 2 * 24
    assert ring is not None

    def write(_offset: int, _size: int, value: int) -> None:
        ring.mapping.write(third + 8, bytes([200]))  # its len
        side.log.append((value, side.machine.queues[0].look()["len"].tolist()))

    side.machine.memory.map(Region("looks", 8, lambda _o, _s: 0, write), BASE)
    side.accel.put(*(Queued(BASE, 1, value) for value in range(3)))
    side.machine.flush()
    assert side.log == [(value, [1, 1, 1]) for value in range(3)]


@pytest.mark.parametrize(("start", "stop"), [(-1, 1), (0, 3), (3, 4)])
def test_no_entry_is_read_that_the_batch_does_not_have(start: int, stop: int) -> None:
    routes = Routes(nothing, nothing)
    with pytest.raises(ValueError, match=f"expected entries within 0 to 2, got {start} to {stop}"):
        routes.write(bytes(48), start, stop, nothing)  # type: ignore[arg-type]


@pytest.mark.parametrize(("size", "pio"), [(0, 0), (9, 0), (1, 2)])
def test_what_is_no_entry_is_refused(size: int, pio: int) -> None:
    entries = np.zeros(2, KVM_COALESCED_MMIO)
    entries["len"], entries["pio"] = [1, size], [0, pio]
    seen: list[int] = []
    routes = Routes(lambda _port, address, _size, _value: seen.append(address), nothing)
    expected = f"entry 1: expected len 1 to 8 and pio 0 or 1, got {size} and {pio}"
    with pytest.raises(ValueError, match=expected):
        routes.write(entries, 0, 2, nothing)
    assert seen == [0]
