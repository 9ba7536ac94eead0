"""KVM's rules of coalescing, on each accelerator that has a ring."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coalesced.hv.abi import KVM_EXIT_IO, KVM_EXIT_MMIO, OP_IN, OP_LOAD, OP_OUT, OP_STORE
from coalesced.hv.client import ZoneChange
from coalesced.hv.outcome import Exit
from coalesced.vmm.accel.base import Accelerator
from helpers.accelerators import WITH_A_RING, Operation, Part, Seen, run

WINDOW, PORT = 0xA0000, 0x3C0
SLOTS, USABLE = 170, 169


@pytest.fixture(params=WITH_A_RING)
def accel(request: pytest.FixtureRequest) -> Iterator[Accelerator]:
    made = WITH_A_RING[request.param]()
    made.change_coalesced(ZoneChange(added=[(WINDOW, 0x1000)]))
    if made.coalesced_pio:
        made.change_coalesced(ZoneChange(added=[(PORT, 16)], port=True))
    yield made
    made.close()


def write(number: int, at: int, ports: bool) -> Operation:
    """One of many writes, of each kind and size, that all lie in a zone."""
    value = (number * 0x9E3779B97F4A7C15 + at) & 0xFFFF_FFFF_FFFF_FFFF
    if ports and (at + number) % 3 == 0:
        size = (1, 2, 4)[at % 3]
        return OP_OUT, size, PORT + at % 12, value & (1 << 8 * size) - 1
    size = (1, 2, 4, 8)[(at + number) % 4]
    return OP_STORE, size, WINDOW + 8 * at, value & (1 << 8 * size) - 1


def as_exit(op: Operation) -> Exit:
    """The exit of a write."""
    kind, size, address, value = op
    return (KVM_EXIT_IO if kind == OP_OUT else KVM_EXIT_MMIO), address, size, True, value


def as_entry(op: Operation) -> tuple[int, int, int, int]:
    """The write in the ring."""
    kind, size, address, value = op
    return address, size, int(kind == OP_OUT), value


def test_every_start_index_fills_to_169_and_the_next_write_exits(accel: Accelerator) -> None:
    """MMIO and PIO mixed, in order. Each fill moves the next start by 169 slots, so that 170 of
    them start at every slot; two more show that it goes on so."""
    fills = [
        [write(number, at, accel.coalesced_pio) for at in range(USABLE + 1)]
        for number in range(SLOTS + 2)
    ]
    for number, seen in enumerate(run(accel, [Part(ops) for ops in fills])):
        ops = fills[number]
        expected = [([as_entry(op) for op in ops[:USABLE]], as_exit(ops[USABLE])), ([], None)]
        assert seen == expected, f"start index {-number % SLOTS}"


def test_a_write_exits_again_after_unregistering(accel: Accelerator) -> None:
    """Unregistering leaves the zones of the other kind alone."""
    store: Operation = (OP_STORE, 4, WINDOW + 0x10, 0x11223344)
    out: Operation = (OP_OUT, 2, PORT + 4, 0x5566)
    parts = [
        Part([store, out]),
        Part([store, out], lambda: accel.change_coalesced(ZoneChange(removed=[(WINDOW, 0x1000)]))),
        Part([store, out], lambda: accel.change_coalesced(ZoneChange(added=[(WINDOW, 0x1000)]))),
    ]
    both, one = [as_entry(store), as_entry(out)], [as_entry(out)]
    queued: Seen = [(both, None)]
    exits: Seen = [([], as_exit(store)), (one, None)]
    if not accel.coalesced_pio:
        queued = [([as_entry(store)], as_exit(out)), ([], None)]
        exits = [([], as_exit(store)), ([], as_exit(out)), ([], None)]
    assert run(accel, [*parts, *parts[1:]]) == [queued, exits, queued, exits, queued]


def test_loads_exit_and_what_was_queued_before_them_comes_first(accel: Accelerator) -> None:
    """So do `in` and a write outside the zones."""
    store: Operation = (OP_STORE, 1, WINDOW, 1)
    outside: Operation = (OP_STORE, 1, WINDOW + 0x1000, 2)
    ops = [store, (OP_LOAD, 4, WINDOW, 0), store, (OP_IN, 1, PORT, 0), store, outside]
    entry = [as_entry(store)]
    assert run(accel, [Part(ops)], answer=0x5A) == [
        [
            (entry, (KVM_EXIT_MMIO, WINDOW, 4, False, 0)),
            (entry, (KVM_EXIT_IO, PORT, 1, False, 0)),
            (entry, as_exit(outside)),
            ([], None),
        ]
    ]
