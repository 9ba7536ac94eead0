"""Exits that C carries out leave devices, loads and counters as those that Python carries out."""

from __future__ import annotations

import io
import json
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coalesced.devices.bus.address_space import Mapping
from coalesced.devices.bus.region import Region
from coalesced.hv.abi import OP_IN, OP_LOAD, OP_OUT, OP_STORE
from coalesced.hv.process import GuestProcess
from coalesced.vmm.accel.process import ProcessAccelerator
from coalesced.vmm.machine import Machine
from coalesced.vmm.tracing import Tracer
from helpers.vmm_fake import Recorder
from helpers.vmm_guests import FILE, RESULTS, RESULTS_SIZE

MEM, SIZE = 0xE000_0000, 0x40
PORT = 0x300
ZONE = ((0x10, 0x10), (0x28, 8))
RAISE, FLUSH, MAP, UNMAP, WAIT, COUNT = range(0xE0, 0xE6)  # values that the devices obey
ODD_ANSWERS = {0xD0: -1, 0xD1: True, 0xD2: 1 << 70 | 5, 0xD3: 2.5, 0xD4: None, 0xD5: np.bool_(1)}

Operation = tuple[int, int, int, int]  # kind, size, address, value
values = st.one_of(st.integers(0, 255), st.sampled_from([*range(RAISE, COUNT + 1), *ODD_ANSWERS]))
sizes = st.sampled_from([1, 1, 2, 4, 8])
port_sizes = st.sampled_from([1, 1, 2, 4])
# Beside the regions on either side, and across their ends.
memory = st.integers(MEM - 8, MEM + SIZE + 8)
ports = st.integers(PORT - 4, PORT + SIZE + 4)
operations = st.one_of(
    st.tuples(st.just(OP_LOAD), sizes, memory, st.just(0)),
    st.tuples(st.just(OP_STORE), sizes, memory, values),
    st.tuples(st.just(OP_STORE), st.just(1), st.integers(MEM + 0x10, MEM + 0x1F), values),
    st.tuples(st.just(OP_IN), port_sizes, ports, st.just(0)),
    st.tuples(st.just(OP_OUT), port_sizes, ports, values),
)


class Side:
    """A machine with devices on both spaces, whose exits C carries out, or Python."""

    def __init__(self, in_c: bool) -> None:
        accel = ProcessAccelerator(GuestProcess())
        self.machine = Machine(accel)
        self.results = self.machine.add_ram(RESULTS, RESULTS_SIZE, declared=False)
        assert accel.exits is not None
        if not in_c:
            accel.exits = None
        self.log: list[Any] = []
        self.above: Mapping | None = None
        devices = [self.recorder("mem"), self.recorder("port")]
        self.machine.memory.map(self.readable(devices[0]), MEM)
        self.machine.ports.map(self.readable(devices[1]), PORT)
        accel.load_guest(f"{FILE}:programs", {})
        self.hidden = self.recorder("above").region

    def recorder(self, name: str) -> Recorder:
        return Recorder(name, SIZE, coalesced=ZONE, on_write=self.obey, log=self.log)

    def readable(self, device: Recorder) -> Region:
        """The device's region, with answers that are no plain numbers."""

        def read(offset: int, size: int) -> int:
            value = device.read(offset, size)
            if value == RAISE:
                raise LookupError("refused")
            return ODD_ANSWERS.get(value, value)  # type: ignore[return-value]

        return Region(device.name, SIZE, read, device.write, coalesced=ZONE)

    def obey(self, _offset: int, value: int) -> None:
        space = self.machine.memory
        if value == RAISE:
            raise ValueError("refused")
        if value == FLUSH:
            self.log.append(self.machine.flush())
        if value == MAP and self.above is None:
            self.above = space.map(self.hidden, MEM + 0x18, priority=1)
        if value == UNMAP and self.above is not None:
            above, self.above = self.above, None
            space.unmap(above)
        if value == WAIT:
            self.machine.loop.call_at(0.0, lambda: self.log.append("timer"))
        if value == COUNT:
            counters = self.machine.counters
            self.log.append((counters.exits, counters.writes, sum(counters.hottest.values())))

    def carry_out(self, program: list[Operation]) -> None:
        """Run a program."""
        text = json.dumps([program]).encode()
        self.results.write(0, len(text).to_bytes(8, "little") + text)
        self.log.clear()
        self.machine.resume()

    def run(self, program: list[Operation]) -> list[object]:
        """Run a program: its loads, the accesses of the devices, the counters."""
        self.carry_out(program)
        size = int.from_bytes(self.results.read(0, 8), "little")
        counters = self.machine.counters
        return [
            json.loads(self.results.read(8, size)),
            list(self.log),
            dict(counters.exits_by),
            dict(counters.hottest),
            counters.single_writes,
            counters.coalesced,
            counters.failures,
            dict(self.machine.memory.unassigned_accesses),
            dict(self.machine.ports.unassigned_accesses),
        ]


@pytest.fixture(scope="module")
def sides() -> Iterator[tuple[Side, Side]]:
    one, other = Side(in_c=True), Side(in_c=False)
    with one.machine, other.machine:
        yield one, other


@settings(max_examples=60, deadline=None)
@given(program=st.lists(operations, min_size=1, max_size=40))
def test_c_carries_exits_out_as_python_does(
    sides: tuple[Side, Side], program: list[Operation]
) -> None:
    one, other = (side.run(program) for side in sides)
    assert one == other


def test_a_truth_value_of_numpy_is_read_as_a_number(sides: tuple[Side, Side]) -> None:
    program = [(OP_STORE, 1, MEM, 0xD5), (OP_LOAD, 1, MEM, 0)]
    assert [side.run(program)[0] for side in sides] == [[[[0xD5, 1], None]]] * 2


def test_exits_come_to_python_while_an_observer_looks(sides: tuple[Side, Side]) -> None:
    machine = sides[0].machine
    text = io.StringIO()
    tracer = Tracer(text, machine.memory, machine.ports)
    machine.observe(tracer)
    program = [(OP_LOAD, 1, MEM, 0), (OP_OUT, 1, PORT, 3)]
    assert sides[0].run(program)[0] == sides[1].run(program)[0]
    machine.ignore(tracer)
    traced = [line.split()[0] for line in text.getvalue().splitlines()]
    assert traced == ["memory_region_ops_read", "memory_region_ops_write"]


def test_sums_of_exits_are_read_without_the_counts_by_address() -> None:
    """Those are added later: that takes milliseconds after many addresses."""
    side = Side(in_c=True)
    with side.machine as machine:
        for loads in (1, 2):
            side.carry_out([(OP_LOAD, 1, MEM, 0), (OP_OUT, 1, PORT, 3)])
            counters = machine.counters
            found = {reason: counters.exits_by[reason] for reason in ("load", "pio")}
            assert (found, counters.writes) == ({"load": loads, "pio": loads}, loads)
            assert not any(counters.tallies.values())
        assert dict(counters.hottest) == {(MEM, False): 2, (PORT, True): 2}
        assert (counters.exits_by["load"], counters.exits_by["pio"]) == (2, 2)


@pytest.mark.parametrize("seed", range(3))
def test_exits_are_counted_at_more_addresses_than_c_has_counts_for(seed: int) -> None:
    """Some of them share a count; what waits there is added when the counts are read."""
    rng = random.Random(seed)
    size, expected = 1 << 26, Counter[tuple[int, bool]]()
    side = Side(in_c=True)
    with side.machine as machine:
        machine.memory.map(Region("large", size, lambda _o, _s: 0, lambda _o, _s, _v: None), 0)
        for _ in range(2):
            spread = [rng.randrange(size) for _ in range(1500)]
            chosen = [*spread, *rng.choices(spread, k=1500)]
            kinds = rng.choices((OP_LOAD, OP_STORE), k=len(chosen))
            side.run([(kind, 1, at, 0) for kind, at in zip(kinds, chosen, strict=True)])
            expected.update((at, False) for at in chosen)
            assert machine.counters.hottest == expected
