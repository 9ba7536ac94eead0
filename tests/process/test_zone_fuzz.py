"""Zones that come and go, down to what the guest's processor does with a write."""

from __future__ import annotations

import errno
from functools import partial

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from coalesced.devices.bus.address_space import Mapping
from coalesced.hv.abi import OP_OUT, OP_STORE
from coalesced.hv.client import ZoneChange
from coalesced.hv.errors import RequestError
from coalesced.hv.zones import Zones
from coalesced.vmm.machine import Machine
from helpers.accelerators import WITH_A_RING, Operation, Part, run
from helpers.vmm_fake import FakeAccelerator, Recorder

BASE, SPACE = 0x8100, 48  # the same numbers for memory and for ports, inside a page
NO_SHRINKING = [Phase.explicit, Phase.reuse, Phase.generate]  # a process an attempt

# Fewer in a row than a ring holds lie in zones, so that none exits for want of room.
EVERYWHERE: list[Operation] = [
    (kind, size, BASE + at, (at * 7 + size) & 0x7F)
    for kind, sizes in ((OP_STORE, (1, 2, 4, 8)), (OP_OUT, (1, 2, 4)))
    for size in sizes
    for at in range(-8, SPACE + 24)
]

places = st.integers(0, SPACE - 1)
lengths = st.integers(1, 20)


class ZonesOfAnAccelerator(RuleBasedStateMachine):
    """Any zones, nested and overlapping: a write is queued if one of its kind has all of it.

    The steps are collected, and one guest carries them out at the end.
    """

    @initialize(accel=st.sampled_from(sorted(WITH_A_RING)))
    def begin(self, accel: str) -> None:
        self.make = WITH_A_RING[accel]
        self.zones: dict[bool, list[tuple[int, int]]] = {False: [], True: []}
        self.changes: list[tuple[bool, int, int, bool]] = []  # registered?, and the zone
        self.parts: list[tuple[list[tuple[bool, int, int, bool]], list[bool]]] = []

    @rule(start=places, size=lengths, port=st.booleans(), again=st.integers(1, 2))
    def register(self, start: int, size: int, port: bool, again: int) -> None:
        """Once or twice."""
        self.changes += [(True, BASE + start, size, port)] * again
        self.zones[port] += [(BASE + start, size)] * again

    @rule(start=places, size=st.integers(0, 20), port=st.booleans())
    def unregister(self, start: int, size: int, port: bool) -> None:
        """Unregister any range: the zones that contain it go."""
        self.remove(BASE + start, size, port)

    @precondition(lambda self: any(self.zones.values()))
    @rule(data=st.data())
    def unregister_one(self, data: st.DataObject) -> None:
        """Unregister the range of a registered zone."""
        port = data.draw(st.sampled_from([port for port in self.zones if self.zones[port]]))
        self.remove(*data.draw(st.sampled_from(self.zones[port])), port)

    def remove(self, start: int, size: int, port: bool) -> None:
        self.changes.append((False, start, size, port))
        self.zones[port] = [
            (at, length)
            for at, length in self.zones[port]
            if not (at <= start and start + size <= at + length)
        ]

    @rule()
    def write_everywhere(self) -> None:
        """Each size at each place, of either kind."""
        self.parts.append((self.changes, [self.queued(op) for op in EVERYWHERE]))
        self.changes = []

    def queued(self, op: Operation) -> bool:
        kind, size, at, _ = op
        zones = self.zones[kind == OP_OUT]
        return any(start <= at and at + size <= start + length for start, length in zones)

    def teardown(self) -> None:
        if not getattr(self, "parts", None):
            return
        accel = self.make()

        def change(what: list[tuple[bool, int, int, bool]]) -> None:
            for registered, start, size, port in what:
                if port and not accel.coalesced_pio:
                    continue
                zone = [(start, size)]
                old, new = ([], zone) if registered else (zone, [])
                accel.change_coalesced(ZoneChange(old, new, port))

        parts = [Part(EVERYWHERE, partial(change, changes)) for changes, _ in self.parts]
        try:
            seen = run(accel, parts)
        finally:
            accel.close()
        for (changes, queued), part in zip(self.parts, seen, strict=True):
            came = []
            for entries, exit_ in part:
                came += [(address, size, True) for address, size, _, _ in entries]
                came += [] if exit_ is None else [(exit_[1], exit_[2], False)]
            expected = [
                (op[2], op[1], inside and (op[0] == OP_STORE or accel.coalesced_pio))
                for op, inside in zip(EVERYWHERE, queued, strict=True)
            ]
            assert came == expected, f"after {changes}"


ZonesOfAnAccelerator.TestCase.settings = settings(
    max_examples=4,
    stateful_step_count=20,
    deadline=None,
    phases=NO_SHRINKING,
    suppress_health_check=list(HealthCheck),
)
TestZonesOfAnAccelerator = ZonesOfAnAccelerator.TestCase


class Kept(FakeAccelerator):
    """Keeps its zones as the kernel does."""

    def __init__(self) -> None:
        super().__init__()
        self.zones = {False: Zones(), True: Zones()}

    def change_coalesced(self, change: ZoneChange) -> int:
        zones = self.zones[change.port]
        for zone in change.removed:
            # Only what was registered, and nothing else along with it.
            assert zones.unregister(*zone) == 1
        for zone in change.added:
            zones.register(*zone)
        return len(change.added)


class ZonesOfAMachine(RuleBasedStateMachine):
    """Regions that come, go, move and hide each other: exactly what is visible is queued."""

    mapped = Bundle("mapped")

    @initialize()
    def begin(self) -> None:
        self.accel = Kept()
        self.machine = Machine(self.accel)
        self.spaces = {False: self.machine.memory, True: self.machine.ports}
        self.there: list[tuple[bool, Mapping]] = []  # in the order in which they came

    @rule(
        target=mapped,
        port=st.booleans(),
        base=places,
        size=lengths,
        ranges=st.lists(st.tuples(st.sampled_from([0, 0, 2, 7]), lengths), max_size=3),
        priority=st.integers(0, 2),
    )
    def map(
        self,
        port: bool,
        base: int,
        size: int,
        ranges: list[tuple[int, int]],
        priority: int,
    ) -> tuple[bool, Mapping]:
        """A region with coalescible ranges that may overlap each other."""
        inside = tuple((at, min(n, size - at)) for at, n in ranges if at < size)
        region = Recorder("region", size, coalesced=inside).region
        mapping = self.spaces[port].map(region, BASE + base, priority)
        self.there.append((port, mapping))
        return port, mapping

    @rule(what=consumes(mapped))
    def unmap(self, what: tuple[bool, Mapping]) -> None:
        """Unmap one region."""
        self.spaces[what[0]].unmap(what[1])
        self.there.remove(what)

    @rule(target=mapped, what=consumes(mapped), base=places)
    def move(self, what: tuple[bool, Mapping], base: int) -> tuple[bool, Mapping]:
        """As a BAR does."""
        self.unmap(what)
        port, old = what
        mapping = self.spaces[port].map(old.region, BASE + base, old.priority)
        self.there.append((port, mapping))
        return port, mapping

    @invariant()
    def each_byte_is_queued_where_it_should_be(self) -> None:
        """The highest, of equals the last, decides for each byte."""
        if not hasattr(self, "there"):
            return
        for port in (False, True):
            for at in range(BASE - 1, BASE + SPACE + 21):
                assert self.accel.zones[port].covers(at, 1) == self.wanted(port, at)

    def wanted(self, port: bool, at: int) -> bool:
        over = [m for p, m in self.there if p == port and m.base <= at < m.end]
        if not over:
            return False
        owner = max(enumerate(over), key=lambda item: (item[1].priority, item[0]))[1]
        offset = at - owner.base
        return any(start <= offset < start + size for start, size in owner.region.coalesced)


ZonesOfAMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestZonesOfAMachine = ZonesOfAMachine.TestCase


class ZonesInALimit(RuleBasedStateMachine):
    """A thousand zones of a kind are taken; the next is refused until one is removed."""

    @initialize()
    def begin(self) -> None:
        self.zones = Zones()
        self.model: list[tuple[int, int]] = []

    @rule(start=st.integers(0, 3000), size=st.integers(0, 40), count=st.integers(1, 400))
    def register(self, start: int, size: int, count: int) -> None:
        """Many, side by side or overlapping."""
        for at in range(start, start + count):
            if len(self.model) == 1000:
                with pytest.raises(RequestError) as refused:
                    self.zones.register(at, size)
                assert refused.value.errno == errno.ENOSPC
                return
            self.zones.register(at, size)
            self.model.append((at, size))

    @rule(start=st.integers(0, 3400), size=st.integers(0, 20))
    def unregister(self, start: int, size: int) -> None:
        """Remove every zone that contains the range."""
        left = [z for z in self.model if not (z[0] <= start and start + size <= sum(z))]
        assert self.zones.unregister(start, size) == len(self.model) - len(left)
        self.model = left

    @rule(start=st.integers(0, 3400), size=st.integers(1, 8))
    def look(self, start: int, size: int) -> None:
        """Whether a zone contains the access."""
        expected = any(at <= start and start + size <= at + n for at, n in self.model)
        assert self.zones.covers(start, size) is expected

    @invariant()
    def as_many_as_expected(self) -> None:
        assert not hasattr(self, "zones") or len(self.zones) == len(self.model)


ZonesInALimit.TestCase.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
TestZonesInALimit = ZonesInALimit.TestCase
