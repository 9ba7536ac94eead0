"""Recording a guest on `direct`, without the operations that the processor refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coalesced.hv.abi import OP, OP_IN, OP_LOAD, OP_OUT, OP_STORE
from coalesced.hv.errors import GuestError
from coalesced.hv.vcpu import Vcpu
from coalesced.vmm.accel.recording import MOST_ACCESSES, MemoryAccess, RecordingAccelerator
from coalesced.vmm.machine import Machine
from helpers.vmm_fake import Recorder as Device

GUEST = str(Path(__file__).resolve())
BASE, PORT = 0x20000, 0x200


def every_call(vcpu: Vcpu) -> None:
    vcpu.store8(BASE, 0x1FF)
    vcpu.store64(BASE + 8, -1)
    vcpu.out16(PORT, 0x12345)
    vcpu.load32(BASE)
    vcpu.in8(PORT)
    vcpu.write_memory(0x10, b"abc")
    vcpu.read_memory(0x11, 3)
    vcpu.fill(BASE + 0x10, 2, 0x55, 2)
    vcpu.store_many([BASE + 0x20, 0], [1, 2], 4)
    ops = np.array([(OP_LOAD, 4, BASE + 0x20, 0), (OP_OUT, 1, PORT, 9)], dtype=OP)
    vcpu.execute(ops)
    ops["value"] = 0  # what was written down does not follow


REFUSED: list[Callable[[Vcpu], object]] = [
    lambda vcpu: vcpu.load8(1 << 64),
    lambda vcpu: vcpu.store16((1 << 64) - 1, 1),
    lambda vcpu: vcpu.in8(0x10000),
    lambda vcpu: vcpu.out32(0xFFFD, 0),
    lambda vcpu: vcpu.bus.load(0, 3),
    lambda vcpu: vcpu.fill((1 << 64) - 4, 2, 0, 4),
    lambda vcpu: vcpu.fill(BASE, 2, 0, 3),
    lambda vcpu: vcpu.read_memory(0x80000, 1),
    lambda vcpu: vcpu.write_memory(0x80000, b"x"),
    lambda vcpu: vcpu.execute(np.array([(4, 1, 0, 0)], OP)),
    lambda vcpu: vcpu.execute(np.array([(OP_IN, 8, 0, 0)], OP)),
    lambda vcpu: vcpu.store_many([BASE, (1 << 64) - 1], [1, 2], 2),
]


def refused_calls(vcpu: Vcpu) -> None:
    for call in REFUSED:
        with pytest.raises((GuestError, OverflowError)):
            call(vcpu)
    with pytest.raises(GuestError, match="operation 2: "):
        vcpu.execute(
            np.array([(OP_STORE, 1, BASE, n) for n in range(2)] + [(OP_IN, 1, 0x10000, 0)], OP)
        )


def waits(vcpu: Vcpu) -> None:
    vcpu.store8(BASE, 1)
    vcpu.wait_interrupt(1, 0)


def never_ends(vcpu: Vcpu) -> None:
    while True:
        vcpu.load8(BASE)


def fails(vcpu: Vcpu) -> None:
    vcpu.load8(-1)


def each(vcpu: Vcpu) -> None:
    vcpu.store8(BASE + vcpu.index, vcpu.load8(BASE) + vcpu.index)


def first_waits(vcpu: Vcpu) -> None:
    while vcpu.index == 0 and not vcpu.load8(BASE):
        pass
    vcpu.store8(BASE, 1)


def recorded(guest: str, most: int = MOST_ACCESSES) -> list[Any]:
    """The steps, arrays as lists of tuples."""
    return recorded_of(guest, 1, most)[0]


def recorded_of(guest: str, vcpus: int, most: int = MOST_ACCESSES) -> list[list[Any]]:
    """The steps of each vCPU."""
    accel = RecordingAccelerator(most, vcpus)
    with Machine(accel) as machine:
        machine.add_ram(0, 0x1000)
        for base, space in ((BASE, machine.memory), (PORT, machine.ports)):
            space.map(Device("device", 0x100).region, base)
        machine.run(f"{GUEST}:{guest}")
    return [
        [step if isinstance(step, MemoryAccess) else step.tolist() for step in each.steps]
        for each in accel.recordings
    ]


def test_every_call_is_written_down_in_order() -> None:
    assert recorded("every_call") == [
        [
            (OP_STORE, 1, BASE, 0xFF),
            (OP_STORE, 8, BASE + 8, (1 << 64) - 1),
            (OP_OUT, 2, PORT, 0x2345),
            (OP_LOAD, 4, BASE, 0xFF),
            (OP_IN, 1, PORT, 0x45),
        ],
        MemoryAccess(True, 0x10, b"abc"),
        MemoryAccess(False, 0x11, b"bc\0"),
        [(OP_STORE, 2, BASE + 0x10, 0x55), (OP_STORE, 2, BASE + 0x12, 0x55)],
        [(OP_STORE, 4, BASE + 0x20, 1), (OP_STORE, 4, 0, 2)],
        [(OP_LOAD, 4, BASE + 0x20, 1), (OP_OUT, 1, PORT, 9)],
    ]


def test_what_is_refused_leaves_no_trace_but_what_came_before_it_does() -> None:
    assert recorded("refused_calls") == [
        [(OP_STORE, 2, BASE, 1)],
        [(OP_STORE, 1, BASE, 0), (OP_STORE, 1, BASE, 1)],
    ]


def test_a_guest_that_waits_for_an_interrupt_is_told_where() -> None:
    with pytest.raises(GuestError) as raised:
        recorded("waits")
    line = waits.__code__.co_firstlineno + 2
    assert str(raised.value) == (
        f"{GUEST}:{line}: GuestError: wait_interrupt: --accel kvm runs a recording of the guest, "
        "without interrupts"
    )


def test_a_guest_that_fails_is_told_where() -> None:
    with pytest.raises(GuestError) as raised:
        recorded("fails")
    assert str(raised.value).startswith(f"{GUEST}:{fails.__code__.co_firstlineno + 1}: Overflow")


@pytest.mark.heavy
def test_a_guest_that_never_ends_is_told_so() -> None:
    with pytest.raises(GuestError) as raised:
        recorded("never_ends", most=100_000)
    assert str(raised.value).endswith(
        "more than 100,000 accesses: --accel kvm runs recorded guests, which end"
    )


def test_each_vcpu_is_recorded_after_the_one_before_it() -> None:
    """Each with its index, on one machine."""
    assert recorded_of("each", 3) == [
        [[(OP_LOAD, 1, BASE, 0), (OP_STORE, 1, BASE, 0)]],
        [[(OP_LOAD, 1, BASE, 0), (OP_STORE, 1, BASE + 1, 1)]],
        [[(OP_LOAD, 1, BASE, 0), (OP_STORE, 1, BASE + 2, 2)]],
    ]


def test_a_vcpu_that_waits_for_another_one_is_told_why_it_cannot() -> None:
    with pytest.raises(GuestError) as raised:
        recorded_of("first_waits", 2, most=1000)
    assert str(raised.value).endswith("one after the other: none can wait for another")
