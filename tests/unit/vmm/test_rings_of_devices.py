"""Rings of devices' own in a machine: whose writes go there, and when they are drained."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coalesced.devices.bus.region import Region
from coalesced.hv.errors import PeerDied
from coalesced.hv.outcome import Event
from coalesced.vmm.drain import Queue
from coalesced.vmm.machine import Machine
from coalesced.vmm.zone import Choice, Zone
from helpers.vmm_fake import (
    ENTRIES_OF_OWN,
    HALT,
    KICKED,
    FakeAccelerator,
    Queued,
    Recorder,
    Step,
    load,
    out,
    store,
)

SIZE, ZONE = 0x100, 0x80  # bytes of a device's region, and of its queued part
COMMON, FIRST, SECOND, NOWHERE = 0x1000, 0x2000, 0x3000, 0x9000


class Chip:
    """A device with a region in memory and one of ports; both write into the log of all."""

    def __init__(self, log: list[tuple[str, int]], name: str, ring: str) -> None:
        self.name = name
        self._log = log
        self.region = self._make(SIZE, ((0, ZONE),), ring)
        self.port = self._make(2, ((0, 1),), ring)
        self.legacy_memory: list[tuple[int, Region, int]] = [(0, self.region, 0)]
        self.legacy_ports: list[tuple[int, Region, int]] = [(0, self.port, 0)]

    def _make(self, size: int, zones: tuple[tuple[int, int], ...], ring: str) -> Region:
        return Region(self.name, size, lambda *_: 0, self.write, coalesced=zones, ring=ring)

    def write(self, _offset: int, _size: int, value: int) -> None:
        self._log.append((self.name, value))

    def reset(self) -> None:
        """Nothing to reset."""

    def state(self) -> dict[str, int]:
        return {}


@dataclass
class World:
    """A machine with three chips at COMMON, FIRST and SECOND; the ports of one behind another's."""

    script: list[Step] = field(default_factory=list)
    rings: str | None = None
    kinds: tuple[str, ...] = ("vm", "own", "own")
    posted: tuple[Zone, ...] = ()
    accel: FakeAccelerator = field(default_factory=FakeAccelerator)
    log: list[tuple[str, int]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.accel.script = iter(self.script)
        self.machine = Machine(
            self.accel,
            rings=self.rings,
            warn=self.warnings.append,
            zones=Choice(posted=self.posted),
        )
        for number, ring in enumerate(self.kinds):
            chip = Chip(self.log, f"chip {number}", ring)
            self.machine.add_device(chip)
            self.machine.memory.map(chip.region, COMMON + 0x1000 * number)
            self.machine.ports.map(chip.port, 0x70 + 2 * number)

    def values(self) -> list[int]:
        return [value for _, value in self.log]

    def queue(self, number: int, *values: int) -> None:
        """Queue writes in an own ring."""
        assert self.accel.own[number].put(*(Queued((FIRST, SECOND)[number], 4, v) for v in values))


@contextmanager
def world(*script: Step, **given: object) -> Iterator[World]:
    made = World(list(script), **given)  # type: ignore[arg-type]
    yield made
    made.machine.close()
    for own in made.accel.own:
        own.close()


def zones(accel: FakeAccelerator) -> list[tuple[object, ...]]:
    return [entry for entry in accel.log if entry[0] in ("register", "post", "unregister")]


# --- whose writes go there ---


def test_all_regions_of_a_device_share_one_ring() -> None:
    with world() as it:
        assert [queue.name for queue in it.machine.queues] == ["vm", "chip 1", "chip 2"]
        found = {zone[1:3] + zone[3:] for zone in zones(it.accel) if zone[0] == "register"}
        assert {(FIRST, ZONE, False, 1), (0x72, 1, True, 1)} <= found
        assert {(SECOND, ZONE, False, 2), (0x74, 1, True, 2)} <= found
        assert {(COMMON, ZONE, False), (0x70, 1, True)} <= found


@pytest.mark.parametrize(
    ("rings", "expected"),
    [("vm", []), (None, ["chip 1", "chip 2"]), ("device", ["chip 0", "chip 1", "chip 2"])],
)
def test_the_machine_may_overrule_what_regions_say(rings: str | None, expected: list[str]) -> None:
    with world(rings=rings) as it:
        assert [queue.name for queue in it.machine.queues[1:]] == expected


def test_regions_that_are_a_devices_attributes_share_its_ring() -> None:
    with world() as it:
        chip = Chip(it.log, "on no bus", "own")
        chip.legacy_memory, chip.legacy_ports = [], []
        it.machine.add_device(chip)
        it.machine.memory.map(chip.region, NOWHERE)
        it.machine.ports.map(chip.port, 0x90)
        assert {zone[1:] for zone in zones(it.accel)} >= {
            (NOWHERE, ZONE, False, 3),
            (0x90, 1, True, 3),
        }


def test_an_accelerator_without_them_queues_in_the_rings_that_it_has() -> None:
    accel = FakeAccelerator()
    accel.own_rings = False
    with world(accel=accel) as it:
        assert len(it.machine.queues) == 1
        assert [zone[1] for zone in zones(accel) if not zone[3]] == [COMMON, FIRST, SECOND]


def test_a_device_for_which_there_is_no_room_uses_the_vms_ring() -> None:
    accel = FakeAccelerator()
    accel.own_room = 1
    with world(accel=accel) as it:
        assert [queue.name for queue in it.machine.queues] == ["vm", "chip 1"]
        assert it.warnings == [
            "warning: chip 2 has no ring of its own: no more buffers; it uses the VM's"
        ]


def test_a_region_of_no_device_has_a_ring_for_itself_and_zones_are_cut_at_its_edges() -> None:
    accel = FakeAccelerator()
    chosen = Choice(added=(Zone(False, COMMON, 0x40),))
    machine = Machine(accel, zones=chosen)
    low, high = (
        Region(name, 0x20, lambda *_: 0, lambda *_: None, coalesced=((0, 0x20),), ring=ring)
        for name, ring in (("low", "vm"), ("high", "own"))
    )
    machine.memory.map(low, COMMON)
    machine.memory.map(high, COMMON + 0x20)
    assert [queue.name for queue in machine.queues] == ["vm", "high"]
    last = zones(accel)[-2:]
    assert ("register", COMMON + 0x20, 0x20, False, 1) in last
    assert machine.coalescing.zones[False] == [(COMMON, 0x20), (COMMON + 0x20, 0x20)]
    machine.close()


def test_devices_of_one_name_are_numbered() -> None:
    with world() as it:
        chip = Chip(it.log, "chip 1", "own")
        it.machine.add_device(chip)
        it.machine.memory.map(chip.region, 0x7000)
        assert [queue.name for queue in it.machine.queues[1:]] == ["chip 1", "chip 2", "chip 1 (2)"]


def test_a_region_asks_for_one_of_two_rings() -> None:
    with pytest.raises(ValueError, match="ring: expected 'vm' or 'own', got 'mine'"):
        Region("r", 1, lambda *_: 0, lambda *_: None, ring="mine")
    with pytest.raises(ValueError, match="rings: expected one of vm, device, got 'own'"):
        Machine(FakeAccelerator(), rings="own")


# --- when they are drained (rule 13) ---


def test_an_exit_drains_the_vms_ring_then_the_own_ring_of_its_device_and_no_other() -> None:
    def queue() -> None:
        it.queue(1, 4)
        it.queue(0, 2)
        it.accel.put(Queued(COMMON, 4, 1))

    def look() -> None:
        seen.append(it.values())

    seen: list[list[int]] = []
    with world(queue, store(FIRST + ZONE, 3), look, HALT) as it:
        it.machine.run("guest")
        assert seen == [[1, 2, 3]]
        assert it.values() == [1, 2, 3, 4]


def test_a_port_of_a_device_drains_its_ring_too_and_an_edge_those_of_both() -> None:
    seen: list[list[int]] = []

    def queue() -> None:
        it.queue(0, 1)
        it.queue(1, 2)

    def look() -> None:
        seen.append(it.values())

    with world(queue, out(0x73, 3), look, queue, store(0x2FFC, 0, 8), look, HALT) as it:
        near = Chip(it.log, "near", "vm")
        it.machine.memory.map(near.region, SECOND - SIZE)
        it.machine.run("guest")
        assert seen[0] == [1, 3]
        assert seen[1][:4] == [1, 3, 2, 2]
        assert it.values()[-1] == 1


def test_an_access_over_three_devices_drains_the_ring_of_the_one_in_between() -> None:
    def queue() -> None:
        it.queue(0, 1)

    def look() -> None:
        seen.append(it.values())

    seen: list[list[int]] = []
    with world(queue, out(0x71, 0, 4), look, HALT, kinds=("vm", "own", "vm")) as it:
        it.machine.run("guest")
        assert seen[0][0] == 1


def test_a_zone_that_is_chosen_is_in_the_ring_of_its_device() -> None:
    chosen = Zone(False, FIRST + ZONE, 4)
    with world(rings="device", posted=(chosen,)) as it:
        assert ("post", FIRST + ZONE, 4, False, 2) in zones(it.accel)


def test_an_access_of_no_device_drains_the_vms_ring_and_a_kick_no_other() -> None:
    seen: list[list[int]] = []

    def queue() -> None:
        it.queue(0, 2)
        it.accel.put(Queued(COMMON, 4, 1))

    def look() -> None:
        seen.append(it.values())

    with world(queue, load(NOWHERE), look, KICKED, look, HALT) as it:
        it.machine.run("guest")
        assert seen == [[1], [1]]
        assert it.values() == [1, 2]


def test_a_ring_that_is_half_full_is_drained_without_an_exit_and_no_other_is() -> None:
    seen: list[list[int]] = []
    half = list(range((ENTRIES_OF_OWN + 1) // 2))

    def queue() -> None:
        it.accel.put(Queued(COMMON, 4, 100))
        it.queue(1, 101)
        it.queue(0, *half)

    def look() -> None:
        seen.append(it.values())

    with world(queue, Event.READABLE, look, HALT) as it:
        it.machine.run("guest")
        assert seen == [half]
        assert [queue.wakeups for queue in it.machine.queues] == [0, 1, 0]
        assert it.values() == [*half, 100, 101]


def test_a_posted_write_drains_its_ring_and_the_vms() -> None:
    seen: list[list[int]] = []

    def queue() -> None:
        it.queue(0, 2)
        it.queue(1, 3)
        it.accel.put(Queued(COMMON, 4, 1))

    def look() -> None:
        seen.append(it.values())

    posted = (Zone(False, SECOND + 8, 4),)
    with world(queue, Event.RING_FILLED, look, HALT, posted=posted) as it:
        assert ("post", SECOND + 8, 4, False, 2) in it.accel.log
        it.machine.run("guest")
        assert seen == [[1, 3]]


def test_a_mapping_change_drains_all_and_from_inside_a_drain_all_others() -> None:
    """Entries behind that write in its own ring were written after it."""
    with world() as it:
        it.queue(0, 2)
        it.queue(1, 3)
        it.accel.put(Queued(COMMON, 4, 1))
        it.machine.memory.map(Recorder("new", 16).region, NOWHERE)
        assert it.values() == [1, 2, 3]
        mapper = Recorder(
            "mapper",
            16,
            coalesced=((0, 16),),
            on_write=lambda *_: it.machine.memory.map(Recorder("more", 16).region, NOWHERE + 0x100),
        )
        it.machine.memory.map(mapper.region, 0x8000)
        it.queue(0, 12)
        it.accel.put(Queued(0x8000, 4, 0), Queued(COMMON, 4, 11))
        it.machine.flush()
        assert it.values() == [1, 2, 3, 12, 11]


def test_a_flush_for_a_device_leaves_the_rings_of_others() -> None:
    """A card that is to receive sees its own writes; the screen's wait on."""
    with world() as it:
        first = it.machine.devices[1]
        it.queue(0, 2)
        it.queue(1, 3)
        it.accel.put(Queued(COMMON, 4, 1))
        it.machine.network.host.flush(first)  # type: ignore[arg-type]
        assert it.values() == [1, 2]


def test_a_death_that_is_found_amid_the_first_drain_is_reported_behind_the_last() -> None:
    class Dying(Chip):
        def write(self, _offset: int, _size: int, value: int) -> None:
            super().write(_offset, _size, value)
            it.machine._drain._death = PeerDied("gone")  # as a timer would find it

    with world(kinds=("own",)) as it:
        dying = Dying(it.log, "dying", "vm")
        it.machine.add_device(dying)
        it.machine.memory.map(dying.region, NOWHERE)
        for flush in (it.machine.flush, lambda: it.machine._drain.flush_within(1.0)):
            it.accel.put(Queued(NOWHERE, 4, 1))
            assert it.accel.own[0].put(Queued(COMMON, 4, 2))
            with pytest.raises(PeerDied):
                flush()
            assert it.values()[-2:] == [1, 2]
            assert it.machine.flush() == 0
        assert it.machine._drain._give_up_at == math.inf


def test_a_mapping_change_by_a_write_of_a_dead_guest_cuts_nothing_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither the rest of its batch, nor the other rings."""

    def gone(*_: object) -> None:
        raise PeerDied("gone")

    with world() as it:
        more = Recorder("more", 16, coalesced=((0, 16),)).region
        mapper = Recorder(
            "mapper",
            16,
            coalesced=((0, 16),),
            on_write=lambda *_: it.machine.memory.map(more, NOWHERE),
        )
        it.machine.memory.map(mapper.region, 0x8000)
        for request in ("pause", "change_coalesced"):
            monkeypatch.setattr(it.accel, request, gone)
        it.queue(0, 1)
        it.accel.put(Queued(0x8000, 4, 0), Queued(COMMON, 4, 2))
        with pytest.raises(PeerDied, match="gone"):
            it.machine.flush()
        assert it.values() == [1, 2]
        assert it.machine.memory.region_at(NOWHERE) is more
        assert it.machine.flush() == 0
        with pytest.raises(PeerDied, match="gone"):
            it.machine.memory.map(Recorder("host's", 16).region, NOWHERE + 0x100)


def test_what_a_dead_guest_left_in_all_rings_arrives() -> None:
    def queue() -> None:
        it.queue(1, 2)
        it.accel.put(Queued(COMMON, 4, 1))

    with world(queue, PeerDied("gone")) as it:
        with pytest.raises(PeerDied):
            it.machine.run("guest")
        assert it.values() == [1, 2]


def test_queues_count_what_came_out_of_them() -> None:
    with world() as it:
        it.queue(0, 1, 2)
        it.machine.flush()
        it.machine.flush()

        def counts(queue: Queue) -> tuple[str, int, int]:
            return queue.name, queue.coalesced, queue.drains

        assert [counts(q) for q in it.machine.queues] == [
            ("vm", 0, 0), ("chip 1", 2, 1), ("chip 2", 0, 0)
        ]  # fmt: skip
        assert it.machine.counters.coalesced == 2


# --- against a model ---

PLACES = (COMMON, FIRST, SECOND)
QUEUE, STORE, FLUSH, FOR, KICK = range(5)


class Model:
    """The rings as lists; `log` is what the devices see."""

    def __init__(self, kinds: tuple[str, ...]) -> None:
        self.rings: dict[int, list[tuple[str, int]]] = {-1: []}  # the VM's first
        self.of = [number if kind == "own" else -1 for number, kind in enumerate(kinds)]
        self.rings |= {number: [] for number in self.of if number >= 0}
        self.log: list[tuple[str, int]] = []

    def drain(self, *rings: int) -> None:
        for ring in rings:
            self.log += self.rings[ring]
            self.rings[ring] = []

    def concerned(self, chip: int) -> None:
        self.drain(*dict.fromkeys((-1, self.of[chip])))

    def step(self, what: int, chip: int, value: int) -> Step | None:
        """Carry a step out; what the fake's script does for it, None for a queued write."""
        entry = (f"chip {chip}", value)
        ring = self.rings[self.of[chip]]
        full = self.of[chip] >= 0 and len(ring) == ENTRIES_OF_OWN
        if what == QUEUE and not full:
            ring.append(entry)
            return None
        if what in (QUEUE, STORE):
            self.concerned(chip)
            self.log.append(entry)
            return store(PLACES[chip] + (0 if what == QUEUE else ZONE), value, 4)
        if what == FLUSH:
            self.drain(*self.rings)
        elif what == FOR:
            self.concerned(chip)
        else:
            self.drain(-1)
            return KICKED
        return None


steps = st.lists(
    st.tuples(st.sampled_from([QUEUE] * 12 + [STORE, STORE, FLUSH, FOR, KICK]), st.integers(0, 2)),
    max_size=120,
)


@given(steps, st.tuples(*[st.sampled_from(["vm", "own"])] * 3))
def test_every_write_arrives_once_in_the_order_of_its_ring_and_before_the_exits_of_rule_13(
    program: list[tuple[int, int]], kinds: tuple[str, ...]
) -> None:
    """The devices see what the model says, write by write, at each exit."""
    with world(kinds=kinds) as it:
        model = Model(kinds)
        numbers = [number for number in model.rings if number >= 0]

        def script() -> Iterator[Step]:
            for value, (what, chip) in enumerate(program):
                told = model.step(what, chip, value)
                if told is not None:
                    yield told
                elif what == QUEUE:
                    write = Queued(PLACES[chip], 4, value)
                    if model.of[chip] < 0:
                        it.accel.put(write)
                    else:
                        assert it.accel.own[numbers.index(chip)].put(write)
                elif what == FLUSH:
                    it.machine.flush()
                else:
                    it.machine.flush_for(it.machine.devices[chip])
                assert it.log == model.log

        it.accel.script = script()
        it.machine.run("guest")
        model.drain(*model.rings)
        assert it.log == model.log
