"""A drained batch does what the same writes do one by one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coalesced.devices.bus.region import Region
from coalesced.hv.abi import PAGE_SIZE
from coalesced.hv.errors import PeerDied, ProtocolError
from coalesced.vmm import pc
from coalesced.vmm.drain import RUNS_KEPT
from coalesced.vmm.machine import Machine
from helpers.vmm_fake import FakeAccelerator, Queued

WINDOW, OTHER = 0xA0000, 0x9000
MAP_ALL_PLANES = [(0x3C4, 0x0604), (0x3C4, 0x0F02), (0x3CE, 0x0506), (0x3CE, 0xFF08)]

to_window = st.builds(
    lambda start, count, size, step, value: [
        Queued(WINDOW + start + i * step, size, (value * (i + 1)) % 256**size) for i in range(count)
    ],
    st.sampled_from([0, 3, 0xFFF0, 0x1FE00]),
    st.integers(1, 30),
    st.sampled_from([1, 1, 2, 4, 8, 3]),
    st.integers(0, 9),
    st.integers(0, 1 << 64),
)
to_map_mask = st.builds(lambda mask: [Queued(0x3C4, 2, mask << 8 | 2, True)], st.integers(0, 15))
to_nothing = st.builds(lambda count: [Queued(0x90000, 1, 5)] * count, st.integers(1, 9))
batches = st.lists(st.one_of(to_window, to_window, to_map_mask, to_nothing), min_size=1, max_size=5)


def machine_with_vga() -> tuple[Machine, FakeAccelerator]:
    accel = FakeAccelerator()
    machine = Machine(accel)
    pc.add_vga(machine)
    for port, value in MAP_ALL_PLANES:
        machine.ports.write(port, 2, value)
    return machine, accel


@settings(max_examples=25, deadline=None)
@given(st.lists(batches, min_size=1, max_size=3))
def test_a_drained_batch_equals_single_writes(rounds: list[list[list[Queued]]]) -> None:
    drained, accel = machine_with_vga()
    plain, _ = machine_with_vga()
    for parts in rounds:
        writes = [write for part in parts for write in part]
        accel.put(*writes)
        assert drained.flush() == len(writes)
        for address, size, value, port in writes:
            (plain.ports if port else plain.memory).write(address, size, value)
    assert drained.state() == plain.state()
    for one, other in ((drained.memory, plain.memory), (drained.ports, plain.ports)):
        assert one.unassigned_accesses == other.unassigned_accesses


def test_batches_whose_lengths_alternate_keep_their_arrays() -> None:
    machine, accel = machine_with_vga()
    runs = machine.queues[0].runs
    kept = []
    for count in (20, 30, 20, 30):
        accel.put(*[Queued(WINDOW, 1, 5)] * count)
        machine.flush()
        kept.append(runs[count])
    assert kept[:2] == kept[2:]


def test_batches_of_many_lengths_keep_the_arrays_of_few() -> None:
    machine, accel = machine_with_vga()
    for count in range(10, 10 + 2 * RUNS_KEPT + 1):
        accel.put(*[Queued(WINDOW, 1, 5)] * count)
        machine.flush()
    assert len(machine.queues[0].runs) == 1


def test_a_death_that_another_error_of_the_drain_hid_is_not_told_by_the_next_one() -> None:
    """The guest that died may be another one by then."""
    machine, accel = machine_with_vga()

    def dies(_offset: int, _size: int, _value: int) -> None:
        machine._drain.found_dead(PeerDied("gone"))

    region = Region("dying", PAGE_SIZE, lambda _offset, _size: 0, dies)
    machine.memory.map(region, OTHER)
    accel.put(Queued(OTHER, 1, 1), Queued(0xFFFF, 4, 1, True))
    with pytest.raises(ProtocolError, match="slot 1 has address 0xffff"):
        machine.flush()
    assert accel.queue is not None
    accel.queue.mapping.write(0, bytes(8))
    accel.queue.consumer.core.restart()
    assert machine.flush() == 0
