"""BARs that move while writes are queued: old ones land, zones follow, the rest is unassigned.

The same guest runs in the guest process and, without a ring, in this one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from coalesced.devices.bus.pci_bus import PciBus
from coalesced.devices.i440fx import I440fx
from coalesced.devices.vga import PciVga
from coalesced.vmm.clock import Clock

if TYPE_CHECKING:
    from coalesced.hv.vcpu import Vcpu
    from coalesced.vmm.accel.base import Accelerator
    from coalesced.vmm.machine import Machine

OLD = 0xE0000000
NEW = 0xE4000000
MMIO = 0xFEBF0000
VRAM = 1 << 20
SLOT = 2


def configure(vcpu: Vcpu, register: int, value: int) -> None:
    """Write a dword of the VGA's configuration space."""
    vcpu.out32(0xCF8, 0x80000000 | SLOT << 11 | register)
    vcpu.out32(0xCFC, value)


# --- guests: they run in the guest process, too ---


def move(vcpu: Vcpu) -> None:
    """Write through the old place and the new one on either side of a move."""
    configure(vcpu, 0x10, OLD)
    configure(vcpu, 0x04, 2)
    for offset in range(20):
        vcpu.store8(OLD + offset, 0xA0 + offset)
    configure(vcpu, 0x10, NEW)
    for offset in range(10):
        vcpu.store8(NEW + offset, 0xB0 + offset)
        vcpu.store8(OLD + offset, 0xFF)  # nothing is there any more
    configure(vcpu, 0x04, 0)
    vcpu.store8(NEW, 0xFF)  # nor here
    vcpu.store8(NEW + 1, 0xFF)


def enable_again(vcpu: Vcpu) -> None:
    """Turn decoding off and on; each write counts while it is on."""
    configure(vcpu, 0x10, OLD)
    for turn in range(4):
        configure(vcpu, 0x04, 2)
        vcpu.store8(OLD + turn, 0x10 + turn)
        configure(vcpu, 0x04, 0)
        vcpu.store8(OLD + turn, 0xEE)


def overlap(vcpu: Vcpu) -> None:
    """Lay the registers' BAR over the framebuffer's: writes reach whichever is in front."""
    configure(vcpu, 0x10, OLD)
    configure(vcpu, 0x04, 2)
    vcpu.store16(OLD + 0x50C, 0x1111)
    configure(vcpu, 0x18, OLD)  # DISPI's bank register now lies at + 0x50a
    vcpu.store16(OLD + 0x50A, 0x0003)
    vcpu.store16(OLD + 0x1000, 0x2222)
    configure(vcpu, 0x18, MMIO)
    vcpu.store16(OLD + 0x50A, 0x3333)


def bank_switch(vcpu: Vcpu) -> None:
    """Planar writes go to the bank that was chosen when they were made."""
    vcpu.out16(0x3C4, 0x0F02)
    vcpu.out16(0x3CE, 0xFF08)
    vcpu.out16(0x3CE, 0x0506)  # graphics, 64 KiB at 0xa0000
    for bank in range(3):
        vcpu.out16(0x1CE, 5)
        vcpu.out16(0x1CF, bank)
        for offset in range(12):
            vcpu.store8(0xA0000 + offset, 0x10 * bank + offset + 1)


def count_addresses(vcpu: Vcpu) -> None:
    """Only accesses of the address port; each is a dword."""
    for register in range(100):
        vcpu.out32(0xCF8, 0x80000000 | register & 0xFC)


# --- the machine ---


def machine_on(accel: Accelerator) -> tuple[Machine, PciVga]:
    from coalesced.vmm.machine import Machine  # noqa: PLC0415 - the guest process imports this file, too

    machine = Machine(accel)
    vga = PciVga(VRAM)
    bus = PciBus(
        machine.memory,
        machine.ports,
        lambda _irq, _level: None,
        machine.dma,
        Clock(machine.loop),
    )
    bus.add(I440fx(), 0)
    bus.add(vga, SLOT)
    machine.add_device(vga)
    return machine, vga


@contextmanager
def run(kind: str, guest: str) -> Iterator[tuple[Machine, PciVga]]:
    from coalesced.hv.process import GuestProcess  # noqa: PLC0415
    from coalesced.vmm.accel.direct import DirectAccelerator  # noqa: PLC0415
    from coalesced.vmm.accel.process import ProcessAccelerator  # noqa: PLC0415

    accel = DirectAccelerator() if kind == "direct" else ProcessAccelerator(GuestProcess(), 1)
    machine, vga = machine_on(accel)
    with machine:
        machine.run(f"{__file__}:{guest}")
        yield machine, vga


KINDS = pytest.mark.parametrize("kind", ["direct", "process"])


@pytest.mark.slow
@KINDS
def test_writes_land_where_the_bar_was_when_they_were_made(kind: str) -> None:
    with run(kind, "move") as (machine, vga):
        expected = bytes(0xB0 + at for at in range(10)) + bytes(0xA0 + at for at in range(10, 20))
        assert vga.vram[:20].tobytes() == expected
        assert not vga.vram[20:].any()
        lost = [OLD + at for at in range(10)] + [NEW, NEW + 1]
        assert {at: machine.memory.unassigned_accesses[at] for at in lost} == dict.fromkeys(lost, 1)


@pytest.mark.slow
def test_both_places_are_zones_in_their_time() -> None:
    with run("process", "move") as (machine, _):
        # 20 + 10 stores, and every write of the address port.
        assert machine.counters.coalesced == 30 + 4
        assert machine.counters.exits_by["no_zone"] == 12


@pytest.mark.slow
@KINDS
def test_decoding_on_and_off(kind: str) -> None:
    with run(kind, "enable_again") as (_, vga):
        assert vga.vram[:5].tolist() == [0x10, 0x11, 0x12, 0x13, 0]


@pytest.mark.slow
@KINDS
def test_a_bar_in_front_of_another(kind: str) -> None:
    with run(kind, "overlap") as (_, vga):
        assert vga.vbe.registers[5] == 3
        assert vga.vga.memory.bank_offset == 3 << 16
        words = vga.vram.view("<u2")
        assert (words[0x50C // 2], words[0x50A // 2]) == (0x1111, 0x3333)
        assert words[0x1000 // 2] == 0x2222


@pytest.mark.slow
@KINDS
def test_planar_writes_are_drained_before_the_bank_changes(kind: str) -> None:
    with run(kind, "bank_switch") as (machine, vga):
        for bank in range(3):
            words = vga.vga.memory.words[bank << 16 :][:12]
            bytes_ = [0x10 * bank + offset + 1 for offset in range(12)]
            assert words.tolist() == [byte * 0x01010101 for byte in bytes_]
        if kind == "process":
            assert machine.counters.coalesced == 36


@pytest.mark.slow
def test_dwords_at_0xcf8_are_coalesced() -> None:
    with run("process", "count_addresses") as (machine, _):
        assert machine.counters.coalesced == 100
        assert dict(machine.counters.exits_by) == {"hlt": 1}


@pytest.mark.slow
def test_both_accelerators_leave_the_same_state() -> None:
    states = []
    for kind in ("direct", "process"):
        with run(kind, "move") as (machine, _):
            states.append(machine.state())
    assert states[0] == states[1]
