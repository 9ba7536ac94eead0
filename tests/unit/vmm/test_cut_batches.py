"""A batch that is cut off, by Ctrl-C or by what a handler meets: the rest of it is not lost."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from coalesced.devices.bus.region import Region
from coalesced.devices.bus.write_run import WriteRun
from coalesced.hv.errors import PeerDied, ProtocolError
from coalesced.vmm.machine import Machine
from helpers.vmm_fake import FakeAccelerator, Queued

BASE = 0x300
ALL = list(range(20))


class Cut:
    """A machine whose device keeps the values that are written, and raises at some of them."""

    def __init__(self, raised: dict[int, BaseException], takes_runs: bool = False) -> None:
        self.raised = raised
        self.seen: list[int] = []
        self.shown: list[int] = []
        self.accel = FakeAccelerator()
        self.machine = Machine(self.accel)
        take = self.take_run if takes_runs else None
        region = Region("cut", 8, lambda _o, _s: 0, self.write, take_run=take)
        self.machine.memory.map(region, BASE)
        self.machine.observe(self)
        self.put(ALL)

    def put(self, values: list[int]) -> None:
        self.accel.put(*(Queued(BASE, 1, value) for value in values))

    def write(self, _offset: int, _size: int, value: int) -> None:
        self.seen.append(value)
        if error := self.raised.pop(value, None):
            raise error

    def take_run(self, run: WriteRun) -> int:
        for taken, (_, _, value) in enumerate(run.entries()):
            if taken and value in self.raised:
                return taken
            self.write(0, 1, value)
        return len(run)

    def access(self, *_: object) -> None:
        """Nothing exits."""

    def batch(self, entries: NDArray[np.void]) -> None:
        self.shown += entries["data"].tolist()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ProtocolError("bad")])
def test_what_ends_a_batch_leaves_the_rest_in_the_ring(error: BaseException) -> None:
    """Neither is a failure of the device."""
    cut = Cut({5: error})
    with pytest.raises(type(error)):
        cut.machine.flush()
    assert cut.seen == ALL[:6]
    assert cut.machine.counters.coalesced == 6
    cut.put([100])
    assert cut.machine.flush() == 15
    assert cut.seen == cut.shown == [*ALL, 100]
    assert cut.machine.counters.coalesced == 21
    assert cut.machine.counters.failed_writes == 0


def test_a_run_that_ctrl_c_ends_is_offered_again_with_the_rest() -> None:
    cut = Cut({3: ValueError(), 5: KeyboardInterrupt()}, takes_runs=True)
    with pytest.raises(KeyboardInterrupt):
        cut.machine.flush()
    assert cut.seen == ALL[:6]
    assert cut.machine.flush() == 15
    assert cut.seen == [*ALL[:6], *ALL[5:]]
    assert cut.shown == ALL
    assert cut.machine.counters.failed_writes == 1


def test_ctrl_c_amid_a_run_of_the_machine_leaves_nothing_in_the_ring() -> None:
    cut = Cut({5: KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        cut.machine.run("guest")
    assert cut.seen == ALL


@pytest.mark.parametrize("takes_runs", [False, True])
def test_the_death_of_the_guest_that_handlers_meet_ends_no_batch(takes_runs: bool) -> None:
    cut = Cut({value: PeerDied(f"gone at {value}") for value in (2, 5, 19)}, takes_runs)
    with pytest.raises(PeerDied, match="gone at 19"):
        cut.machine.flush()
    assert cut.seen == ALL
    assert cut.machine.flush() == 0
    assert cut.machine.counters.failed_writes == 0
