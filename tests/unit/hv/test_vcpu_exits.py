"""The run page byte for byte, and accesses that no processor can carry out."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest

from coalesced.hv import abi, core
from coalesced.hv.errors import GuestError
from coalesced.hv.vcpu import Vcpu
from helpers.hv_pair import (
    Pair,
    answer,
    one_by_one,
    operations,
    ram,
    table,
)

LOAD, STORE, IN, OUT = abi.OP_LOAD, abi.OP_STORE, abi.OP_IN, abi.OP_OUT


# --- the run page, byte for byte ---


def run_page(pair: Pair, size: int, offset: int = abi.KVM_RUN_UNION) -> bytes:
    """Bytes of kvm_run's union."""
    return pair.mapping.read(offset, size)


def reason(pair: Pair) -> int:
    """kvm_run.exit_reason as it lies there."""
    return int(struct.unpack("<I", pair.mapping.read(abi.KVM_RUN_EXIT_REASON, 4))[0])


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_an_mmio_write_fills_kvm_run(size: int) -> None:
    """phys_addr, data padded with 0, len, is_write."""
    value = 0xF1E2D3C4B5A69788
    with Pair() as pair:
        pair.start(lambda vcpu: vcpu.store(0x123456789A0, size, value))
        low = value % (1 << 8 * size)
        assert pair.next_exit() == (abi.KVM_EXIT_MMIO, 0x123456789A0, size, True, low)
        assert reason(pair) == abi.KVM_EXIT_MMIO
        layout = abi.KVM_RUN_MMIO
        data = low.to_bytes(8, "little")
        assert run_page(pair, layout.size) == layout.pack(0x123456789A0, data, size, 1)


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_an_mmio_load_takes_its_result_from_kvm_run(size: int) -> None:
    """Only as many bytes as the access has, whatever lies behind them."""
    with Pair() as pair:
        got: list[int] = []
        pair.start(lambda vcpu: got.append(vcpu.load(0x1000, size)))
        assert pair.next_exit() == (abi.KVM_EXIT_MMIO, 0x1000, size, False, 0)
        layout = abi.KVM_RUN_MMIO
        assert run_page(pair, layout.size) == layout.pack(0x1000, bytes(8), size, 0)
        pair.handle.complete(0x8877665544332211)
        data = (0x8877665544332211 % (1 << 8 * size)).to_bytes(8, "little")
        assert run_page(pair, 8, abi.KVM_RUN_UNION + 8) == data
        pair.mapping.write(abi.KVM_RUN_UNION + 8, b"\x11\x22\x33\x44\x55\x66\x77\x88")
        pair.next_exit()
        assert got == [0x8877665544332211 % (1 << 8 * size)]


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_port_write_fills_kvm_run_and_the_pio_page(size: int) -> None:
    """direction, size, port, count 1, and the data in the page behind."""
    value = 0xC4B5A697
    with Pair() as pair:
        pair.start(lambda vcpu: vcpu.out(0xCFC, size, value))
        low = value % (1 << 8 * size)
        assert pair.next_exit() == (abi.KVM_EXIT_IO, 0xCFC, size, True, low)
        assert reason(pair) == abi.KVM_EXIT_IO
        layout, page = abi.KVM_RUN_IO, abi.KVM_PIO_PAGE_OFFSET * abi.PAGE_SIZE
        assert run_page(pair, layout.size) == layout.pack(abi.KVM_EXIT_IO_OUT, size, 0xCFC, 1, page)
        assert run_page(pair, 8, page) == low.to_bytes(8, "little")


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_port_read_takes_its_result_from_the_pio_page(size: int) -> None:
    """Only as many bytes as the access has."""
    with Pair() as pair:
        got: list[int] = []
        pair.start(lambda vcpu: got.append(vcpu.in_(0x3DA, size)))
        assert pair.next_exit() == (abi.KVM_EXIT_IO, 0x3DA, size, False, 0)
        layout, page = abi.KVM_RUN_IO, abi.KVM_PIO_PAGE_OFFSET * abi.PAGE_SIZE
        assert run_page(pair, layout.size) == layout.pack(abi.KVM_EXIT_IO_IN, size, 0x3DA, 1, page)
        pair.handle.complete(0xFFEEDDCCBBAA9988)
        assert run_page(pair, 8, page) == (0xBBAA9988 % (1 << 8 * size)).to_bytes(8, "little")
        pair.mapping.write(page, b"\x11\x22\x33\x44\x55\x66\x77\x88")
        pair.next_exit()
        assert got == [0x44332211 % (1 << 8 * size)]


def test_halt_and_system_event_carry_their_reasons() -> None:
    """A halt has no payload, a system event its type."""
    with Pair() as pair:
        pair.start(lambda vcpu: vcpu.system_event(abi.KVM_SYSTEM_EVENT_CRASH))
        crash = (abi.KVM_EXIT_SYSTEM_EVENT, abi.KVM_SYSTEM_EVENT_CRASH, 0, False, 0)
        assert pair.next_exit() == crash
        assert run_page(pair, 4) == struct.pack("<I", abi.KVM_SYSTEM_EVENT_CRASH)
        assert pair.next_exit() == (abi.KVM_EXIT_HLT, 0, 0, False, 0)
        assert reason(pair) == abi.KVM_EXIT_HLT
        assert pair.vcpu.exits == 1  # the halt; a system event is none


def test_the_words_count_exits_and_entries() -> None:
    """Stopped: both sequences are equal; the first operation's time is written once."""

    def word(pair: Pair, offset: int) -> int:
        return int.from_bytes(pair.mapping.read(offset, 4), "little")

    with Pair() as pair:
        assert pair.handle.first_operation == 0
        pair.start(lambda vcpu: vcpu.fill(0x5000, 1, 3, 0))
        for n in range(1, 4):
            pair.next_exit()
            assert word(pair, core.EXIT_SEQUENCE) == word(pair, core.RESUME_SEQUENCE) == n
            assert not pair.handle.running
        first = pair.handle.first_operation
        assert first > 0
        pair.next_exit()
        assert pair.handle.first_operation == first


def test_only_a_load_is_completed() -> None:
    """Answering a store, or before any exit, is a mistake of the VMM."""
    with Pair() as pair:
        with pytest.raises(RuntimeError, match="the last exit was no load"):
            pair.handle.complete(1)
        pair.start(lambda vcpu: one_by_one(vcpu, [(STORE, 1, 0, 1), (LOAD, 1, 0, 0)]))
        pair.next_exit()
        with pytest.raises(RuntimeError, match="the last exit was no load"):
            pair.handle.complete(1)
        pair.next_exit()
        pair.handle.complete(1)
        pair.handle.enter()
        with pytest.raises(RuntimeError, match="the last exit was no load"):
            pair.handle.complete(1)
        with pytest.raises(RuntimeError, match="running already"):
            pair.handle.enter()
        pair.this_exit()


# --- what no processor can carry out ---

TOP = 2**64
WRONG: list[tuple[Callable[[core.Vcpu], object], str]] = [
    (lambda v: v.store(0x10, 3, 0), "store of 3 bytes at 0x10: expected a size of 1, 2, 4 or 8"),
    (lambda v: v.store(0x10, 0, 0), "store of 0 bytes at 0x10: expected a size of 1, 2, 4 or 8"),
    (lambda v: v.store(0x10, 16, 0), "store of 16 bytes at 0x10: expected a size of 1, 2, 4 or 8"),
    (lambda v: v.load(0x10, 5), "load of 5 bytes at 0x10: expected a size of 1, 2, 4 or 8"),
    (
        lambda v: v.load(TOP - 1, 2),
        "load of 2 bytes at 0xffffffffffffffff: expected an address that does not wrap",
    ),
    (
        lambda v: v.store(TOP - 7, 8, 0),
        "store of 8 bytes at 0xfffffffffffffff9: expected an address that does not wrap",
    ),
    (lambda v: v.out(0x60, 8, 0), "out of 8 bytes at 0x60: expected a size of 1, 2 or 4"),
    (lambda v: v.out(0x60, 3, 0), "out of 3 bytes at 0x60: expected a size of 1, 2 or 4"),
    (lambda v: v.in_(0x60, 0), "in of 0 bytes at 0x60: expected a size of 1, 2 or 4"),
    (lambda v: v.in_(0x10000, 1), "in of 1 bytes at 0x10000: expected ports of 0 to 0xffff"),
    (lambda v: v.out(0xFFFD, 4, 0), "out of 4 bytes at 0xfffd: expected ports of 0 to 0xffff"),
    (lambda v: v.out(TOP - 1, 1, 0), "out of 1 bytes at 0xffffffffffffffff: expected ports of 0"),
    (
        lambda v: v.execute(operations([(STORE, 1, 0x10, 0), (4, 1, 0x20, 0)])),
        "operation 1: unknown kind of access of 1 bytes at 0x20: expected load, store, in or out",
    ),
    (
        lambda v: v.execute(operations([(STORE, 1, 0x10, 0), (LOAD, 3, 0x20, 0)])),
        "operation 1: load of 3 bytes at 0x20: expected a size of 1, 2, 4 or 8",
    ),
    (
        lambda v: v.store_many(np.array([0x10, TOP - 1], np.uint64), 2, np.zeros(2, np.uint64)),
        "operation 1: store of 2 bytes at 0xffffffffffffffff: expected an address that does not",
    ),
    (lambda v: v.fill(0x10, 3, 1, 0), "operation 0: store of 3 bytes at 0x10: expected a size of"),
    (
        lambda v: v.read_memory(0x1000, 1),
        "read of 1 bytes at 0x1000: expected guest RAM",
    ),
    (lambda v: v.read_memory(0x2000, 1 << 40), "read of 1 bytes at 0x2000: expected guest RAM"),
    (lambda v: v.read_memory(0x3000, 1 << 70), "read of 1 bytes at 0x3000: expected guest RAM"),
    (
        lambda v: v.write_memory(0x1000, b"x"),
        "write of 1 bytes at 0x1000: expected guest RAM",
    ),
]


@pytest.mark.parametrize(("wrong", "said"), WRONG, ids=[said for _, said in WRONG])
def test_what_no_processor_can_do_is_a_guest_error(
    wrong: Callable[[core.Vcpu], object], said: str
) -> None:
    """The text names the access, its place and what was expected; the vCPU goes on."""
    with Pair() as pair:
        pair.vcpu.set_zones(0, table((0x10, 0x10)))
        with pytest.raises(GuestError) as raised:
            wrong(pair.vcpu)
        assert str(raised.value).startswith(said)
        pair.drain()
        pair.vcpu.store(0x10, 1, 1)
        assert len(pair.drain()) == 1


def test_a_fill_does_not_wrap_to_address_0() -> None:
    """The store behind the last address of the space is an error and not one at 0."""
    with Pair() as pair:
        pair.vcpu.set_zones(0, table((0, 0x1000)))
        ram(TOP - 0x1000, bytes(0x1000), pair.vcpu)
        with pytest.raises(GuestError, match="wrap"):
            pair.vcpu.fill(TOP - 2, 1, 3, 0x55)
        assert pair.drain() == []


def test_a_size_past_32_bits_is_no_small_one() -> None:
    """Sizes are not cut to the width of a C type on their way."""
    one = np.zeros(1, np.uint64)
    with Pair() as pair:
        pair.vcpu.set_zones(0, table((0, 0x1000)))
        calls: list[Callable[[], None]] = [
            lambda: pair.vcpu.store(0, 2**32 + 1, 0),
            lambda: pair.vcpu.fill(0, 2**32 + 1, 1, 0),
            lambda: pair.vcpu.store_many(one, 2**32 + 1, one),
        ]
        for wrong in calls:
            with pytest.raises((GuestError, OverflowError)):
                wrong()
        assert pair.drain() == []


def test_arguments_of_the_wrong_type_or_range_are_python_errors() -> None:
    """TypeError, OverflowError and ValueError, as for any Python function."""
    with Pair() as pair:
        vcpu = pair.vcpu
        one, two = np.zeros(1, np.uint64), np.zeros(2, np.uint64)
        for call, error in (
            (lambda: vcpu.store("a", 1, 1), TypeError),  # type: ignore[arg-type]
            (lambda: vcpu.store(0, 1, 1.5), TypeError),  # type: ignore[arg-type]
            (lambda: vcpu.store(0, 1), TypeError),  # type: ignore[call-arg]
            (lambda: vcpu.load(-1, 1), OverflowError),
            (lambda: vcpu.load(TOP, 1), OverflowError),
            (lambda: vcpu.store_many(one, 1, two), ValueError),
            (lambda: vcpu.execute(two), ValueError),
            (lambda: vcpu.execute(operations([(0, 1, 0, 0)] * 4)[::2]), ValueError),
            (lambda: vcpu.execute(bytes(24)), (BufferError, ValueError)),  # type: ignore[arg-type]
            (lambda: vcpu.read_memory(0, -1), ValueError),
            (lambda: vcpu.wait_interrupt(1, -1.0), ValueError),
            (lambda: vcpu.wait_interrupt(1, float("nan")), ValueError),
            (lambda: Vcpu(vcpu).execute(two), ValueError),  # type: ignore[arg-type]
        ):
            with pytest.raises(error):
                call()


def test_values_are_cut_to_the_access() -> None:
    """Of what is written the low bytes count, also of what is below 0 or past 64 bits."""
    with Pair() as pair:
        pair.vcpu.set_zones(0, table((0, 0x1000)))
        pair.vcpu.store(0, 2, -2)
        pair.vcpu.store(0, 1, 0x1FF)
        pair.vcpu.store(0, 8, (1 << 70) + 5)
        assert [e.value for e in pair.drain()] == [0xFFFE, 0xFF, 5]


def test_what_guests_call_reaches_the_bus_in_every_width() -> None:
    """Each method of `hv.vcpu.Vcpu` is the access that its name says."""
    seen: list[int] = []

    def guest(bus: core.Vcpu) -> None:
        vcpu = Vcpu(bus)
        vcpu.store8(1, 0x11)
        vcpu.store16(2, 0x2222)
        vcpu.store32(4, 0x44444444)
        vcpu.store64(8, 0x8888888888888888)
        vcpu.out8(1, 0x11)
        vcpu.out16(2, 0x2222)
        vcpu.out32(4, 0x44444444)
        seen.extend([vcpu.load8(0x10), vcpu.load16(0x20), vcpu.load32(0x40), vcpu.load64(0x80)])
        seen.extend([vcpu.in8(0x10), vcpu.in16(0x20), vcpu.in32(0x40)])
        vcpu.fill(0x100, 2, 0x3333, 4)
        vcpu.store_many([0x200, 0x300], 0x77)
        vcpu.execute(operations([(STORE, 2, 0x400, 9)]))
        with pytest.raises(ValueError, match=r"array of coalesced\.hv\.abi\.OP"):
            vcpu.execute(np.zeros(3, np.uint64))

    with Pair() as pair:
        events = pair.run(guest, answer)
        io, mmio = abi.KVM_EXIT_IO, abi.KVM_EXIT_MMIO
        assert [(e.reason, e.address, e.size) for e in events] == [
            *((mmio, n, n) for n in (1, 2, 4, 8)),
            *((io, n, n) for n in (1, 2, 4)),
            *((mmio, 0x10 * n, n) for n in (1, 2, 4, 8)),
            *((io, 0x10 * n, n) for n in (1, 2, 4)),
            *((mmio, a, 4) for a in (0x100, 0x104)),
            *((mmio, a, 1) for a in (0x200, 0x300)),
            (mmio, 0x400, 2),
        ]
        assert seen == [answer(0, 0x10 * n, n) % 256**n for n in (1, 2, 4, 8)] + [
            answer(1, 0x10 * n, n) % 256**n for n in (1, 2, 4)
        ]
