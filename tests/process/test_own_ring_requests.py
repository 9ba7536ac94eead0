"""Rings of devices' own between two processes: requests, and what is left when one of them ends."""

from __future__ import annotations

import errno
import os
import random
import select
import signal
from pathlib import Path

import pytest

from coalesced.hv import abi, client
from coalesced.hv.client import ZoneChange
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.errors import PeerDied, RequestError
from coalesced.hv.own_ring import OwnRing
from helpers.descriptors import descriptors
from helpers.hv_guests import Write, drained, endless, run, vcpu_of, writer
from helpers.hv_processes import machine, names_by, within

OWN, OTHER = 0x20000, 0x30000  # zones of own rings
HLT, MMIO = abi.KVM_EXIT_HLT, abi.KVM_EXIT_MMIO

ENDLESS = endless(OWN)
IDLE = "def main(vcpu):\n    pass\n"


@pytest.fixture
def written(tmp_path: Path) -> Write:
    """Write a guest."""
    return writer(tmp_path)


def taken(own: OwnRing) -> list[int]:
    """The data of all published entries, taken out."""
    values: list[int] = own.ring.peek()["data"].tolist()
    own.ring.commit(len(values))
    return values


def go_on(vm: client.Vm, own: OwnRing, seen: list[int]) -> None:
    """Run a guest that only stores, whatever happens; the values go to `seen`."""
    while isinstance(got := vcpu_of(vm).run(), tuple):
        seen += taken(own)
        seen.append(got[4])


def refused(vm: client.Vm, request: int, argument: bytes, fds: tuple[int, ...] = ()) -> int:
    """The errno of a request."""
    with pytest.raises(RequestError) as error:
        vm.request(request, argument, fds)
    return error.value.errno


def test_writes_wait_in_the_rings_that_their_zones_name(written: Write) -> None:
    """Two zones name one buffer; a third names the VM's ring."""
    name = written(
        f"""
        def main(vcpu):
            for n in range(3):
                vcpu.store32({OWN:#x}, n)
                vcpu.store32(0x10000, 10 + n)
                vcpu.out8(0x70, 20 + n)
        """
    )
    with within(20), machine(name) as vm:
        own = vm.create_coalesced_buffer(2)
        vm.register_coalesced_mmio(OWN, 4, buffer=own)
        vm.change_coalesced_mmio(ZoneChange(added=[(0x70, 1)], port=True, buffer=own))
        assert run(vm)[0] == HLT
        assert taken(own) == [0, 20, 1, 21, 2, 22]
        assert drained(vm) == [10, 11, 12]
        assert vm.statistics().coalesced == 9


def test_who_looks_at_a_ring_takes_no_signal_from_who_drains_it(written: Write) -> None:
    """The descriptor stays readable until the ring is drained."""
    name = written(f"def main(vcpu):\n    vcpu.fill({OWN:#x}, 3, 7, size=4)\n")
    with within(20), machine(name) as vm:
        own = vm.create_coalesced_buffer(1, wake_at=2)
        vm.register_coalesced_mmio(OWN, 0x100, buffer=own)
        assert run(vm)[0] == HLT
        assert own.look()["data"].tolist() == [7, 7, 7]
        assert select.select([own.fd], [], [], 0)[0] == [own.fd]
        assert taken(own) == [7, 7, 7]
        assert select.select([own.fd], [], [], 0)[0] == []


def test_a_descriptor_that_a_third_party_filled_and_made_block_does_not_stop_the_guest(
    written: Write,
) -> None:
    """The open file is shared: the VMM, which waits for an exit or a reply, would not empty it."""
    name = written(f"def main(vcpu):\n    vcpu.store32({OWN:#x}, 7)\n")
    with within(20), machine(name) as vm:
        own = vm.create_coalesced_buffer(1, wake_at=1)
        vm.register_coalesced_mmio(OWN, 4, buffer=own)
        os.eventfd_write(own.fd, (1 << 64) - 2)
        os.set_blocking(own.fd, True)
        assert run(vm)[0] == HLT
        assert taken(own) == [7]


def test_the_descriptor_wakes_a_vmm_while_the_guest_sleeps(written: Write) -> None:
    name = written(
        f"def main(vcpu):\n    vcpu.fill({OWN:#x}, 5, 7, size=4)\n    vcpu.wait_interrupt()\n"
    )
    with within(20), machine(name) as vm:
        own = vm.create_coalesced_buffer(1, wake_at=5)
        vm.register_coalesced_mmio(OWN, 0x100, buffer=own)
        vcpu_of(vm).handle.enter()
        assert select.select([own.fd], [], [], 10)[0]
        assert taken(own) == [7] * 5
        assert not select.select([own.fd], [], [], 0)[0]
        vm.irq_line(0, True)
        assert run(vm)[0] == HLT


def test_giving_a_buffer_up_takes_its_zones_along_and_leaves_its_entries(written: Write) -> None:
    """Its entries can be read afterwards; its number is free again."""
    name = written(
        f"""
        def main(vcpu):
            vcpu.store32({OWN:#x}, 1)
            vcpu.store32(0x90000, 2)
            vcpu.store32({OWN:#x}, 3)
            vcpu.store32({OTHER:#x}, 4)
        """
    )
    with within(20), machine(name) as vm:
        own, other = vm.create_coalesced_buffer(), vm.create_coalesced_buffer()
        assert (own.number, other.number) == (1, 2)
        vm.register_coalesced_mmio(OWN, 4, buffer=own)
        vm.register_coalesced_mmio(OTHER, 4, buffer=other)
        assert run(vm)[1] == 0x90000
        vm.close_coalesced_buffer(own)
        assert taken(own) == [1]
        assert run(vm)[1:] == (OWN, 4, True, 3)
        assert run(vm)[0] == HLT
        assert taken(other) == [4]
        assert vm.create_coalesced_buffer().number == 1


def test_unregistering_asks_for_no_ring(written: Write) -> None:
    """As in the series: a range is taken out of every zone that contains it, whichever its ring."""
    name = written(
        f"def main(vcpu):\n    vcpu.store32({OWN:#x}, 1)\n    vcpu.store32({OTHER:#x}, 2)\n"
    )
    with within(20), machine(name) as vm:
        own = vm.create_coalesced_buffer()
        for zone in (OWN, OTHER):
            vm.register_coalesced_mmio(zone, 4, buffer=own)
        vm.unregister_coalesced_mmio(OWN, 4)
        vm.request(
            abi.KVM_UNREGISTER_COALESCED_MMIO2, abi.KVM_COALESCED_MMIO_ZONE2.pack(OTHER, 4, 0, -1)
        )
        assert run(vm)[1] == OWN
        assert run(vm)[1] == OTHER
        assert run(vm)[0] == HLT


def test_requests_that_cannot_be(written: Write) -> None:
    with within(20), machine(written(IDLE)) as vm:
        zone = abi.KVM_COALESCED_MMIO_ZONE2
        create = abi.KVM_CREATE_COALESCED_MMIO_BUFFER
        assert vm.check_extension(abi.KVM_CAP_COALESCED_MMIO2) == 1
        for number in (-1, 0, 1):
            packed = zone.pack(OWN, 4, 0, number)
            assert refused(vm, abi.KVM_REGISTER_COALESCED_MMIO2, packed) == errno.EBADF
        batch = abi.HV_REQUEST.pack(0) + abi.KVM_COALESCED_MMIO_ZONE.pack(OWN, 4, 3 << 8)
        assert refused(vm, abi.HV_CHANGE_ZONES, batch) == errno.EBADF
        assert (
            refused(vm, abi.HV_CLOSE_COALESCED_MMIO_BUFFER, abi.HV_REQUEST.pack(1)) == errno.EBADF
        )
        assert refused(vm, create, abi.HV_BUFFER.pack(1, 1)) == errno.EINVAL
        blocking = os.eventfd(0, 0)
        for pages, wake_at, fd in (
            (0, 1, 0),
            (4097, 1, 0),
            (1, 0, 0),
            (1, 170, 0),
            (1, 1, blocking),
        ):
            usable = fd or os.eventfd(0, os.EFD_NONBLOCK)
            packed = abi.HV_BUFFER.pack(pages, wake_at)
            assert refused(vm, create, packed, (usable,)) == errno.EINVAL
            os.close(usable)
        with pytest.raises(RequestError, match="wakes the VMM at 0 entries"):
            vm.create_coalesced_buffer(wake_at=0)
        for _ in range(abi.BUFFERS_MAX):
            vm.create_coalesced_buffer()
        with pytest.raises(RequestError, match="no more than 64") as error:
            vm.create_coalesced_buffer()
        assert error.value.errno == errno.ENOSPC
        assert run(vm)[0] == HLT


def test_a_kernel_without_coalesced_io_has_none(written: Write) -> None:
    with within(20), machine(written(IDLE), ring_pages=0) as vm:
        assert vm.check_extension(abi.KVM_CAP_COALESCED_MMIO2) == 0
        with pytest.raises(RequestError) as error:
            vm.create_coalesced_buffer()
        assert error.value.errno == errno.ENXIO


# --- ends ---


@pytest.mark.parametrize("policy", list(WaitPolicy), ids=lambda p: p.name.lower())
def test_a_guest_killed_while_an_own_ring_holds_entries_loses_none(
    written: Write, policy: WaitPolicy
) -> None:
    """The guest counts its stores in RAM; as many arrive, and no name is left in /dev/shm."""
    name = written(ENDLESS)
    for _ in range(3):
        seed = random.getrandbits(32)
        chance = random.Random(seed)
        with within(30), machine(name, policy=policy) as vm:
            own = vm.create_coalesced_buffer(chance.choice([1, 2, 16]))
            vm.register_coalesced_mmio(OWN, 8, buffer=own)
            seen: list[int] = []
            for _ in range(chance.randrange(1, 40)):
                got = vcpu_of(vm).run(chance.random() * 0.0005)
                if isinstance(got, tuple) or chance.random() < 0.5:
                    seen += taken(own)
                if isinstance(got, tuple):
                    seen.append(got[4])
            signal.pidfd_send_signal(vm.process.pidfd, signal.SIGKILL)
            with pytest.raises(PeerDied, match="killed by SIGKILL"):
                go_on(vm, own, seen)
            seen += taken(own)
            stored = int.from_bytes(vm.memory[0].mapping.read(0, 8), "little")
            assert seen == list(range(len(seen))), f"seed {seed}: a gap or a repetition"
            assert stored <= len(seen) <= stored + 1, f"seed {seed}"
            assert names_by(vm.process.pid, os.getpid()) == []


def test_a_closed_machine_leaves_no_descriptor_of_its_buffers(written: Write) -> None:
    name = written(IDLE)
    with machine(name) as vm:  # whatever is opened once and for all
        vm.create_coalesced_buffer()
    before = descriptors()
    for kept in (0, 1):
        with machine(name) as vm:
            buffers = [vm.create_coalesced_buffer() for _ in range(3)]
            for each in buffers[kept:]:
                vm.close_coalesced_buffer(each)
        assert descriptors() - before == set()
    assert names_by(os.getpid()) == []
