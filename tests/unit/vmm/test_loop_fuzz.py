"""A machine's run: any order of queued writes, exits, timers and changes, against a plain model."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from coalesced.hv.errors import PeerDied
from coalesced.hv.outcome import Event
from coalesced.hv.ring import usable
from coalesced.vmm.machine import Machine
from helpers.vmm_fake import (
    KICKED,
    FakeAccelerator,
    Queued,
    Recorder,
    Seen,
    Step,
    in_,
    load,
    out,
    store,
)

MEMORY, PORTS, SIZE = 0x1000, 0x200, 0x40
BAD = 0xEE  # a write of this value raises
FLUSHING = 0xFF  # the device asks for a flush on a write of this value
STALENESS = 0.5

offsets = st.integers(0, SIZE - 8)
values = st.one_of(st.integers(0, 255), st.sampled_from([BAD, FLUSHING]))
sizes = st.sampled_from([1, 2, 4])


class RunLoop(RuleBasedStateMachine):
    """Events are collected; `go` carries them out, and checks each observation of the devices."""

    @initialize(staleness=st.sampled_from([STALENESS, STALENESS, None]))
    def begin(self, staleness: float | None) -> None:
        self.now = self.planned = 0.0
        self.clock = mock.patch("time.monotonic", self.monotonic)
        self.clock.start()
        self.accel = FakeAccelerator()
        self.machine = Machine(self.accel, staleness=staleness)
        self.log: list[tuple[str, Seen]] = []
        self.devices = {
            port: Recorder(name, SIZE, coalesced=((0, SIZE),), on_write=self.on_write, log=self.log)
            for port, name in ((False, "memory"), (True, "ports"))
        }
        self.machine.memory.map(self.devices[False].region, MEMORY)
        self.machine.ports.map(self.devices[True].region, PORTS)
        for device in self.devices.values():
            self.machine.add_device(device)
        self.other = Recorder("other", 0x10, coalesced=((0, 0x10),))
        # The model.
        self.script: list[Step] = []
        self.queue: list[Queued] = []
        self.expected: list[tuple[str, Seen]] = []
        self.bytes = {False: bytearray(SIZE), True: bytearray(SIZE)}
        self.loads: list[int] = []
        self.coalesced = self.single = self.failed = self.stale = self.halts = 0
        self.staleness = staleness
        self.due = staleness

    def monotonic(self) -> float:
        return self.now

    def on_write(self, _offset: int, value: int) -> None:
        if value == BAD:
            raise ValueError("bad")
        if value == FLUSHING:
            # Within a drain a no-op, and an exit's write comes when all is drained.
            assert self.machine.flush() == 0

    # --- what the model does ---

    def deliver(self, port: bool, offset: int, size: int, value: int) -> None:
        if value == BAD:
            self.failed += 1
            return
        self.expected.append(("ports" if port else "memory", ("write", offset, size, value)))
        self.bytes[port][offset : offset + size] = value.to_bytes(size, "little")

    def drain(self) -> int:
        count = len(self.queue)
        for address, size, value, port in self.queue:
            self.deliver(port, address - (PORTS if port else MEMORY), size, value)
        self.queue.clear()
        self.coalesced += count
        return count

    def timers(self) -> None:
        """After each return of the guest: the staleness timer, if it is due."""
        if self.due is not None and self.planned >= self.due:
            assert self.staleness is not None
            self.stale += self.drain() > 0
            self.due = self.planned + self.staleness

    def add(self, *steps: Step) -> None:
        self.script += steps

    def look(self) -> None:
        """Compare what has reached the devices by now."""
        expected = len(self.expected)

        def compare() -> None:
            assert self.log == self.expected[: len(self.log)]
            assert len(self.log) == expected

        self.add(compare)

    # --- what may happen ---

    @precondition(lambda self: len(self.queue) < usable(1))
    @rule(port=st.booleans(), offset=offsets, size=sizes, value=values)
    def queued_write(self, port: bool, offset: int, size: int, value: int) -> None:
        """It reaches no device yet."""
        write = Queued((PORTS if port else MEMORY) + offset, size, value, port)
        self.queue.append(write)
        self.add(write)
        self.look()

    @precondition(lambda self: len(self.queue) < usable(1) - 40)
    @rule(port=st.booleans(), value=st.integers(0, 200), count=st.integers(8, 40))
    def queued_run(self, port: bool, value: int, count: int) -> None:
        """Enough of one kind to be taken as arrays."""
        for at in range(count):
            self.queued_write(port, at % (SIZE - 8), 1, (value + at) % BAD)

    @rule(port=st.booleans(), offset=offsets, size=sizes, value=values)
    def write_that_exits(self, port: bool, offset: int, size: int, value: int) -> None:
        """Behind everything that was queued."""
        self.drain()
        self.single += 1
        self.deliver(port, offset, size, value)
        at = offset + (PORTS if port else MEMORY)
        self.add(out(at, value, size) if port else store(at, value, size))
        self.timers()
        self.look()

    @rule(port=st.booleans(), offset=offsets, size=sizes)
    def read(self, port: bool, offset: int, size: int) -> None:
        """It sees what was queued before it."""
        self.drain()
        value = int.from_bytes(self.bytes[port][offset : offset + size], "little")
        self.expected.append(("ports" if port else "memory", ("read", offset, size, value)))
        self.loads.append(value)
        at = offset + (PORTS if port else MEMORY)
        self.add(in_(at, size) if port else load(at, size))
        self.timers()
        self.look()

    @rule()
    def kick(self) -> None:
        """An exit without an access drains, too."""
        self.drain()
        self.add(KICKED)
        self.timers()
        self.look()

    @rule(seconds=st.sampled_from([0.0, 0.25, 0.5, 2.0]))
    def time_passes(self, seconds: float) -> None:
        """While the guest runs on: only the staleness timer may drain."""
        self.planned += seconds

        def pass_() -> None:
            self.now += seconds

        self.add(pass_, Event.TIMED_OUT)
        self.timers()
        self.look()

    @precondition(lambda self: len(self.queue) < usable(1))
    @rule(port=st.booleans(), offset=offsets, seconds=st.sampled_from([0.25, 0.5]))
    def a_write_waits(self, port: bool, offset: int, seconds: float) -> None:
        """In the ring, while time passes."""
        self.queued_write(port, offset, 1, 1)
        self.time_passes(seconds)

    @rule()
    def the_ring_is_watched(self) -> None:
        """As `--wait poll` does it."""
        self.drain()
        self.add(Event.RING_FILLED)
        self.timers()
        self.look()

    @rule(port=st.booleans())
    def a_mapping_changes(self, port: bool) -> None:
        """Before it, the queue reaches the devices; the guest is paused meanwhile."""
        self.drain()
        space = self.machine.ports if port else self.machine.memory

        def change() -> None:
            self.accel.log.clear()
            mapping = space.map(self.other.region, 0x8000)
            assert self.accel.log == [("pause",), ("register", 0x8000, 0x10, port)]
            space.unmap(mapping)
            assert self.accel.log[2:] == [("pause",), ("unregister", 0x8000, 0x10, port)]

        self.add(change)
        self.look()

    @rule()
    def the_state_is_looked_at(self) -> None:
        """A flush point, also while the guest runs."""
        self.drain()
        self.add(self.machine.state)
        self.look()

    @rule()
    def go(self) -> None:
        """Let it happen, and halt."""
        self.drain()
        self.halts += 1
        self.happen(self.machine.resume)

    @rule()
    def go_and_die(self) -> None:
        """Let it happen, then the guest process ends: what it had published arrives."""
        self.drain()
        self.add(PeerDied("the guest process ended"))

        def die() -> None:
            with pytest.raises(PeerDied):
                self.machine.resume()

        self.happen(die)

    def happen(self, run: Callable[[], object]) -> None:
        self.accel.script, self.script = iter(self.script), []
        run()
        assert self.log == self.expected
        assert self.accel.completed == self.loads
        assert not self.queue

    @invariant()
    def counters_agree_when_all_has_happened(self) -> None:
        if not hasattr(self, "machine") or self.script:
            return
        counters = self.machine.counters
        assert counters.coalesced == self.coalesced
        assert counters.single_writes == self.single
        assert counters.failed_writes == self.failed
        assert counters.stale_drains == self.stale
        assert counters.halts == self.halts
        for port, device in self.devices.items():
            assert device.bytes == self.bytes[port]

    def teardown(self) -> None:
        if not hasattr(self, "machine"):
            return
        try:
            self.go()
        finally:
            self.clock.stop()
            self.machine.close()


RunLoop.TestCase.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
TestRunLoop = RunLoop.TestCase
