"""Machines whose guest the real KVM runs: devices, timers, guests that go wrong, what is left."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from coalesced.devices.bus.address_space import Mapping
from coalesced.hv.abi import NR_IOBUS_DEVS, OP, OP_IN, OP_LOAD, OP_OUT, OP_STORE
from coalesced.hv.errors import GuestError, HostError
from coalesced.hv.kvm import KvmVm
from coalesced.hv.outcome import Event
from coalesced.vmm import pc
from coalesced.vmm.accel.kvm import PLACES, KvmAccelerator
from coalesced.vmm.accel.recording import MemoryAccess, Recording, Step
from coalesced.vmm.machine import Machine
from helpers.descriptors import descriptors
from helpers.hv_processes import names_by
from helpers.kvm_sides import needs_kvm, needs_several
from helpers.vmm_fake import Recorder

pytestmark = needs_kvm

DEVICE, SIZE = 0x20000, 0x2000
PORT = 0x200
CODE = 0x10000000
Operation = tuple[int, int, int, int]


class Board:
    """A machine with RAM and a device, most of which is coalesced, and one behind ports."""

    def __init__(
        self,
        *steps: list[Operation] | MemoryAccess,
        places: tuple[int, int] = PLACES,
        vcpus: int = 1,
        **options: object,
    ) -> None:
        recording = Recording([self._step(step) for step in steps])
        self.accel = KvmAccelerator(lambda _guest, _arguments: [recording], places, vcpus)
        self.machine = Machine(self.accel, **options)  # type: ignore[arg-type]
        self.ram = self.machine.add_ram(0, 0x10000)
        self.device = Recorder("device", SIZE, coalesced=((0, SIZE - 0x10),))
        self.ports = Recorder("ports", 0x10)
        self.machine.memory.map(self.device.region, DEVICE)
        self.machine.ports.map(self.ports.region, PORT)

    @staticmethod
    def _step(step: list[Operation] | MemoryAccess) -> Step:
        return step if isinstance(step, MemoryAccess) else np.array(step, dtype=OP)

    def written(self) -> list[tuple[int, int]]:
        return [(offset, value) for what, offset, _, value in self.device.seen if what == "write"]

    def run_code(self, code: bytes) -> None:
        """Have each vCPU carry out bytes of machine code."""
        self.accel.load_code(code, CODE, 0x2000)
        self.machine.resume()

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *_: object) -> None:
        self.machine.close()


def store(address: int, value: int) -> bytes:
    """mov byte [address], value"""
    return b"\xc6\x05" + address.to_bytes(4, "little") + bytes([value])


def apart(first: bytes, others: bytes) -> bytes:
    """The first vCPU's code, and that of the other ones: the index is in eax."""
    return b"\x85\xc0\x0f\x85" + len(first).to_bytes(4, "little") + first + others


FOR_EVER = b"\xeb\xfe"
HALT = b"\xf4"
COUNTS = pytest.mark.parametrize("vcpus", [1, pytest.param(3, marks=needs_several)])


def test_a_guest_reaches_ram_devices_and_ports() -> None:
    copied = bytes(range(251)) * 3
    board = Board(
        [(OP_STORE, 4, 0x1000, 0x11223344), (OP_LOAD, 2, 0x1001, 0x2233)],
        MemoryAccess(True, 0x2000, copied),
        MemoryAccess(False, 0x2001, copied[1:]),
        [
            (OP_STORE, 8, DEVICE + 0xFFC, 0x8877665544332211),
            (OP_LOAD, 8, DEVICE + 0xFFC, 0x8877665544332211),
            (OP_OUT, 2, PORT + 2, 0xBEEF),
            (OP_IN, 4, PORT, 0xBEEF0000),
        ],
    )
    with board:
        board.machine.run("a guest")
        assert board.ram.read(0x1000, 4) == bytes.fromhex("44332211")
        assert board.ram.read(0x2000, len(copied)) == copied
        assert board.device.seen[:2] == [
            ("write", 0xFFC, 4, 0x44332211),
            ("write", 0x1000, 4, 0x88776655),
        ]
        loads, got = board.accel.loads()
        assert loads["value"].tolist() == got.tolist()
        assert board.accel.differing_copies() == 0
        counters = board.machine.counters
        assert (counters.coalesced, counters.single_writes, counters.halts) == (2, 1, 1)
        assert counters.exits_by == {"load": 2, "pio": 2, "hlt": 1}


def test_what_differs_from_the_recording_is_told() -> None:
    board = Board(
        [(OP_LOAD, 4, DEVICE, 7), (OP_LOAD, 1, 0x100, 9), (OP_IN, 1, PORT, 0)],
        MemoryAccess(False, 0x200, b"abcd"),
    )
    with board:
        board.ram.write(0x200, b"axcy")
        board.machine.run("a guest")
        _, got = board.accel.loads()
        assert got.tolist() == [0, 0, 0]
        assert board.accel.differing_copies() == 2


def test_the_program_lies_where_the_guest_touches_nothing() -> None:
    """Also when it touches the first places that come to mind."""
    touched = [0x10000000, 0x10001FFF, 0x10003FFE, 0x10010000]
    with Board([(OP_STORE, 4, address, 1) for address in touched]) as board:
        board.machine.memory.map((high := Recorder("high", 0x20000)).region, 0x10000000)
        board.machine.run("a guest")
        offsets = [offset for _, offset, _, _ in high.seen]
        assert offsets == [0, 0x1FFF, 0x2000, 0x3FFE, 0x4000, 0x10000]


def test_a_machine_full_of_ram_has_no_place_left() -> None:
    with (
        Board([(OP_STORE, 1, DEVICE, 1)], places=(0x8000, 0x10800)) as board,
        pytest.raises(HostError, match="no place for a program of 4096 bytes"),
    ):
        board.machine.run("a guest")


@pytest.mark.parametrize(
    ("code", "said", "eip"),
    [
        (b"\x0f\x0b", "it shut down by a triple fault (KVM_EXIT_SHUTDOWN)", CODE + 14),
        (
            b"\xe9" + (0x20000000).to_bytes(4, "little"),
            "KVM could not continue it (KVM_EXIT_INTERNAL_ERROR",
            CODE + 19 + 0x20000000,
        ),
    ],
    ids=["ud2 without a handler", "jump into nowhere"],
)
def test_a_guest_that_goes_wrong_is_told_with_its_registers(
    code: bytes, said: str, eip: int
) -> None:
    """The writes that were queued before the error reach the device."""
    with Board() as board:
        with pytest.raises(GuestError) as raised:
            board.run_code(store(DEVICE, 1) + store(DEVICE + 1, 2) + code)
        text = str(raised.value)
        assert text.startswith(f"the guest: {said}")
        assert f"; eip {eip:#x}, eflags 0x" in text
        assert ", eax 0x0, " in text
        assert "\n" not in text
        assert board.written() == [(0, 1), (1, 2)]


@needs_several
def test_an_error_of_one_vcpu_ends_the_run_while_others_go_on() -> None:
    with Board(vcpus=3) as board:
        with pytest.raises(GuestError, match=r"^vCPU 0: the guest: it shut down by a triple fault"):
            board.run_code(apart(store(DEVICE, 1) + b"\x0f\x0b", FOR_EVER))
        assert board.written() == [(0, 1)]


@needs_several
def test_a_machine_stops_with_all_of_its_vcpus_which_continue_where_they_were() -> None:
    with Board(vcpus=3) as board:
        board.machine.loop.call_at(time.monotonic(), board.machine.stop)
        waiting = b"\x80\x3d" + (0x100).to_bytes(4, "little") + b"\0\x74\xf7"  # until [0x100]
        board.run_code(waiting + store(DEVICE, 7) + HALT)
        assert (board.written(), board.machine.counters.halts) == ([], 0)
        board.ram.write(0x100, b"\1")
        board.machine.resume()
        assert (board.written(), board.machine.counters.halts) == (3 * [(0, 7)], 3)


class Stop(Exception):
    """Raised by a timer to end a machine's run."""


@needs_several
def test_another_run_enters_a_vcpu_that_had_halted_in_one_that_was_stopped() -> None:
    with Board(vcpus=2) as board:
        loop = board.machine.loop

        def look() -> None:
            if board.machine.counters.halts:
                raise Stop
            loop.call_at(time.monotonic() + 0.001, look)

        look()
        with pytest.raises(Stop):
            board.run_code(apart(HALT, FOR_EVER))
        code = apart(store(DEVICE, 1) + HALT, store(DEVICE + 1, 2) + HALT)
        board.accel.load_code(code, CODE + 0x10000)
        board.machine.resume()
        assert sorted(board.written()) == [(0, 1), (1, 2)]


WRITES = 20_000


@needs_several
def test_no_write_is_lost_repeated_or_overtaken_while_another_vcpu_makes_zones_move() -> None:
    """One counts in a register whose region is covered and shown again by the other's writes."""
    count = (
        b"\x31\xdb"  # xor ebx, ebx
        b"\x89\x1d" + DEVICE.to_bytes(4, "little")  # again: mov [DEVICE], ebx
        + b"\x43\x81\xfb" + WRITES.to_bytes(4, "little") + b"\x75\xf1" + HALT  # past the last?
    )  # fmt: skip
    move = (
        b"\x66\xba" + PORT.to_bytes(2, "little") + b"\xb9" + (60).to_bytes(4, "little")
        + b"\xee\x49\x75\xfc" + HALT  # again: out dx, al; dec ecx; jnz again
    )  # fmt: skip
    with Board(vcpus=2) as board:
        above = Recorder("above", SIZE, log=board.device.log)
        space, mapped = board.machine.memory, list[Mapping]()

        def toggle(_offset: int, _value: int) -> None:
            if mapped:
                space.unmap(mapped.pop())
            else:
                mapped.append(space.map(above.region, DEVICE, priority=1))

        board.ports.on_write = toggle
        board.run_code(apart(count, move))
        names = [name for name, _ in board.device.log]
        assert [value for _, (_, _, _, value) in board.device.log] == list(range(WRITES))
        assert set(names) == {"device", "above"}


@COUNTS
def test_what_a_guest_queued_is_delivered_although_it_never_exits(vcpus: int) -> None:
    """The staleness timer takes a single vCPU out of KVM_RUN; several run on."""
    with Board(staleness=0.002, vcpus=vcpus) as board:

        def look() -> None:
            if board.device.seen:
                raise Stop

        board.machine.loop.call_every(0.001, look)
        with pytest.raises(Stop):
            board.run_code(apart(store(DEVICE + 5, 9) + FOR_EVER, FOR_EVER))
        assert board.written() == [(5, 9)]
        assert board.machine.counters.stale_drains == 1


def test_a_guest_gets_on_although_a_timer_is_always_due() -> None:
    ops = [(OP_STORE, 4, 0x1000, at % 251) for at in range(20_000)]
    with Board(ops) as board:
        board.accel.load_guest("a guest", {})
        entered = 1
        while board.accel.vcpu.run(0) is Event.TIMED_OUT:
            entered += 1
            assert entered < 10_000
        assert entered > 1
        assert board.ram.read(0x1000, 4) == (19_999 % 251).to_bytes(4, "little")


@COUNTS
def test_a_descriptor_is_served_although_the_guest_never_exits(vcpus: int) -> None:
    with Board(vcpus=vcpus) as board:
        read_end, write_end = os.pipe()

        def readable() -> None:
            raise Stop

        board.machine.loop.add_reader(read_end, readable)
        os.write(write_end, b"\0")
        with pytest.raises(Stop):
            board.run_code(FOR_EVER)
        os.close(read_end)
        os.close(write_end)


def test_a_thousand_zones_with_the_machines_own() -> None:
    with Board([(OP_STORE, 1, DEVICE, 1)]) as board:
        pc.add_vga(board.machine)
        own = 2  # the device's and the VGA's window
        ranges = tuple((16 * number, 4) for number in range(NR_IOBUS_DEVS))
        region = Recorder("many", 16 * NR_IOBUS_DEVS, coalesced=ranges).region
        board.machine.memory.map(region, 0x40000000)
        last = 0x40000000 + 16 * (NR_IOBUS_DEVS - own - 1)
        zones = board.machine.coalescing.zones[False]
        assert (len(zones), zones[-1]) == (NR_IOBUS_DEVS, (last, 4))


@contextmanager
def nothing_stays() -> Iterator[None]:
    before, names = descriptors(), names_by(os.getpid())
    yield
    assert (descriptors() - before, names_by(os.getpid())) == (set(), names)


def test_descriptors_and_segments_are_given_back() -> None:
    with nothing_stays(), Board([(OP_STORE, 1, DEVICE, 1)]) as board:
        board.machine.run("a guest")
        board.machine.close()


def test_a_vcpu_that_cannot_be_made_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_vm: KvmVm) -> None:
        raise HostError("no vCPU")

    monkeypatch.setattr(KvmVm, "create_vcpu", fail)
    with nothing_stays(), pytest.raises(HostError, match="no vCPU"):
        KvmAccelerator(lambda _guest, _arguments: [Recording()])
