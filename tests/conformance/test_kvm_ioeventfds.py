"""ioeventfds of the emulated kernel against this machine's own: entries, exits, signals, errors."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import pytest

from coalesced.hv.abi import OP_LOAD as LOAD
from coalesced.hv.abi import OP_OUT as OUT
from coalesced.hv.abi import OP_STORE as STORE
from coalesced.hv.errors import RequestError
from coalesced.hv.ioeventfds import Ioeventfd
from helpers.kvm_sides import KvmSide, Operation, ProcessSide, Seen, Side, Zone, both, needs_kvm

pytestmark = needs_kvm

AT, PORT = 0xA0100, 0x3C0
AROUND: Zone = (AT - 0x100, 0x200, False)
EXACT: Zone = (AT, 4, False)
FROM_HERE: Zone = (AT, 0x40, False)
PORTS: Zone = (PORT - 8, 16, True)
ANY = Ioeventfd(AT, 0)
FOUR = Ioeventfd(AT, 4)
SEVEN = Ioeventfd(AT, 4, 7)
OUTS = Ioeventfd(PORT, 2, pio=True)

WRITES: list[Operation] = [
    (STORE, 1, AT, 7),
    (STORE, 2, AT, 7),
    (STORE, 4, AT, 7),
    (STORE, 4, AT, 8),
    (STORE, 8, AT, 7),
    (STORE, 4, AT + 1, 7),
    (STORE, 2, AT - 1, 7),
    (LOAD, 4, AT, 0),
    (OUT, 1, PORT, 7),
    (OUT, 2, PORT, 7),
    (OUT, 4, PORT, 7),
    (OUT, 2, PORT + 1, 7),
]

HIDDEN = [(STORE, 8, AT), (STORE, 4, AT + 1), (OUT, 4, PORT), (OUT, 2, PORT + 1)]


@pytest.fixture(scope="module")
def sides() -> Iterator[tuple[ProcessSide, KvmSide]]:
    with both() as made:
        yield made


def seen_by(
    side: Side, registered: Sequence[Zone | Ioeventfd], ops: list[Operation]
) -> tuple[Seen, list[int]]:
    """A program's entries and exits, and how often each ioeventfd was signalled."""
    events: dict[Ioeventfd, int] = {}
    try:
        for each in registered:
            if isinstance(each, Ioeventfd):
                events[each] = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
                side.vm.ioeventfd(each, events[each])
            else:
                side.register(each)
        seen = side.run(ops)
        return seen, [_taken(fd) for fd in events.values()]
    finally:
        for event, fd in events.items():
            side.vm.ioeventfd(event, fd, assign=False)
            os.close(fd)
        side.clear()


def _taken(fd: int) -> int:
    try:
        return os.eventfd_read(fd)
    except BlockingIOError:
        return 0


@pytest.mark.parametrize(
    "registered",
    [
        (ANY,),
        (FOUR,),
        (SEVEN,),
        (SEVEN, Ioeventfd(AT, 4, 8), Ioeventfd(AT, 2)),
        (OUTS,),
        (AROUND, FOUR),
        (FOUR, AROUND),
        (AROUND, SEVEN),
        (SEVEN, AROUND),
        (EXACT, FOUR),
        (FOUR, EXACT),
        (FROM_HERE, FOUR),
        (FOUR, FROM_HERE),
        (FROM_HERE, SEVEN),
        (OUTS, PORTS),
        (PORTS, OUTS),
    ],
    ids=lambda registered: " ".join(map(str, registered)),
)
def test_each_write_goes_where_kvm_brings_it(
    sides: tuple[ProcessSide, KvmSide], registered: Sequence[Zone | Ioeventfd]
) -> None:
    first, ops = registered[0], WRITES
    if first in (AROUND, PORTS):
        # A device inside a zone hides from KVM's search what lies behind its start and is larger.
        ops = [op for op in WRITES if op[:3] not in HIDDEN]
    emulated, real = (seen_by(side, registered, ops) for side in sides)
    assert emulated == real


ODD = [
    [Ioeventfd(AT, 3)],
    [Ioeventfd(AT, 16)],
    [Ioeventfd(AT, 0, 7)],
    [Ioeventfd((1 << 64) - 4, 4)],
    [Ioeventfd((1 << 64) - 5, 4)],
    [FOUR, FOUR],
    [FOUR, SEVEN],
    [SEVEN, FOUR],
    [SEVEN, Ioeventfd(AT, 4, 8)],
    [FOUR, Ioeventfd(AT, 2)],
    [ANY, FOUR],
    [FOUR, ANY],
    [FOUR, Ioeventfd(AT, 4, pio=True)],
]


@pytest.mark.parametrize("events", ODD, ids=lambda events: " ".join(map(str, events)))
def test_both_refuse_the_same(sides: tuple[ProcessSide, KvmSide], events: list[Ioeventfd]) -> None:
    """By the same number; so does taking away what is not there."""
    said = []
    for side in sides:
        fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        numbers = [_number(side, event, fd, assign=True) for event in events]
        numbers += [_number(side, event, fd, assign=False) for event in events]
        os.close(fd)
        said.append(numbers)
    assert said[0] == said[1]


def _number(side: Side, event: Ioeventfd, fd: int, *, assign: bool) -> int:
    try:
        side.vm.ioeventfd(event, fd, assign)
    except RequestError as error:
        return error.errno
    return 0
