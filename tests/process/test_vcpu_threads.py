"""Several vCPUs of one guest process, each entered and left by itself."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from coalesced.hv import abi
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.errors import PeerDied, RequestError
from coalesced.hv.outcome import Event
from coalesced.hv.vcpus import Vcpu
from helpers.hv_pair import POLICIES
from helpers.hv_processes import RAM, ZONE, machine

LIMIT = 20.0  # seconds
HALTED = (abi.KVM_EXIT_HLT, 0, 0, False, 0)

PER_VCPU = f"""
def guest(vcpu):
    for n in range(100):
        vcpu.store32({ZONE:#x} + 4 * vcpu.index, n)
    vcpu.out8(0x20 + vcpu.index, vcpu.index)
"""

# The first vCPU queues a write, sets a flag in RAM and goes on without an exit; the second one
# waits for the flag, then exits.
MESSAGE = f"""
import numpy as np
from coalesced.hv import abi

def guest(vcpu):
    if vcpu.index == 0:
        ops = np.zeros(3_000_000, abi.OP)
        ops["kind"], ops["size"], ops["address"] = abi.OP_STORE, 4, {RAM:#x} + 64
        ops[0]["address"] = {ZONE:#x}
        ops[1]["address"], ops[1]["value"] = {RAM:#x}, 1
        vcpu.load32({RAM:#x} + 128)
        vcpu.execute(ops)
    else:
        while vcpu.load32({RAM:#x}) != 1:
            pass
        vcpu.in8(0x20)
"""


def written(folder: Path, text: str) -> str:
    (folder / "guest.py").write_text(text)
    return f"{folder / 'guest.py'}:guest"


def taken(vcpu: Vcpu) -> list[tuple[int, int]]:
    """(address, value) of the entries in the ring, taken out."""
    assert vcpu.ring is not None
    batch = vcpu.ring.peek()
    entries = list(zip(batch["phys_addr"].tolist(), batch["data"].tolist(), strict=True))
    vcpu.ring.commit(len(batch))
    return entries


@POLICIES
@pytest.mark.parametrize("count", [2, 8])
def test_each_vcpu_runs_the_guest_with_its_index_and_exits_by_itself(
    tmp_path: Path, policy: WaitPolicy, count: int
) -> None:
    with machine(written(tmp_path, PER_VCPU), policy=policy, vcpus=count, ring_pages=16) as vm:
        for vcpu in vm.vcpus:
            vcpu.handle.enter()
        for index, vcpu in reversed(list(enumerate(vm.vcpus))):
            assert vcpu.run(LIMIT) == (abi.KVM_EXIT_IO, 0x20 + index, 1, True, index)
        entries = taken(vm.vcpus[0])
        for index in range(count):
            mine = [value for address, value in entries if address == ZONE + 4 * index]
            assert mine == list(range(100))
        for vcpu in vm.vcpus:
            assert vcpu.run(LIMIT) == HALTED
        assert vm.statistics()[:2] == (100 * count, 2 * count)


def test_a_message_through_ram_comes_after_the_write_that_was_queued_before_it(
    tmp_path: Path,
) -> None:
    """Rule 12: at the exit of the vCPU that saw the flag, the VMM finds the other one's write."""
    with machine(written(tmp_path, MESSAGE), vcpus=2) as vm:
        vm.vcpus[0].handle.enter()
        assert vm.vcpus[1].run(LIMIT) == (abi.KVM_EXIT_IO, 0x20, 1, False, 0)
        assert vm.vcpus[0].handle.running
        assert taken(vm.vcpus[0]) == [(ZONE, 0)]


def test_a_guest_error_in_any_vcpu_is_reported(tmp_path: Path) -> None:
    name = written(
        tmp_path, "def guest(vcpu):\n    if vcpu.index == 1:\n        raise ValueError(5)"
    )
    with machine(name, vcpus=2) as vm:
        assert vm.vcpus[0].run(LIMIT) == HALTED
        got = vm.vcpus[1].run(LIMIT)
        assert isinstance(got, tuple)
        assert got[0] == abi.KVM_EXIT_SYSTEM_EVENT
        assert "ValueError: 5" in str(vm.guest_error())


def test_an_interrupt_line_reaches_every_vcpu_that_waits(tmp_path: Path) -> None:
    name = written(tmp_path, "def guest(vcpu):\n    vcpu.out8(0x20, vcpu.wait_interrupt(2))")
    with machine(name, vcpus=2) as vm:
        vm.vcpus[0].handle.enter()
        assert vm.vcpus[1].run(0.01) is Event.TIMED_OUT
        vm.irq_line(1, True)
        for vcpu in vm.vcpus:
            assert vcpu.run(LIMIT) == (abi.KVM_EXIT_IO, 0x20, 1, True, 2)


def test_a_request_stops_all_vcpus_and_they_go_on_with_what_it_changed(tmp_path: Path) -> None:
    """Both write without an exit until the zone is gone."""
    name = written(tmp_path, f"def guest(vcpu):\n    while True:\n        vcpu.store8({RAM:#x}, 1)")
    with machine(name, vcpus=2) as vm:
        for vcpu in vm.vcpus:
            vcpu.handle.enter()
        vm.set_user_memory_region(0, RAM, 0)
        for vcpu in vm.vcpus:
            assert not vcpu.handle.running
            assert vcpu.run(LIMIT) == (abi.KVM_EXIT_MMIO, RAM, 1, True, 1)


def test_a_vmm_that_changes_zones_under_a_running_vcpu_is_refused(tmp_path: Path) -> None:
    """Its thread is amid the table that would go: hostile, for `request` stops all first."""
    with machine(written(tmp_path, MESSAGE), vcpus=2) as vm:
        vm.vcpus[1].handle.enter()
        vm.vcpus[0].handle.enter()
        assert vm.vcpus[1].run(LIMIT) == (abi.KVM_EXIT_IO, 0x20, 1, False, 0)
        vm.vcpus.reverse()  # the one that is asked serves; the other one runs on
        vm.pause = lambda: None  # type: ignore[method-assign]
        with pytest.raises(RequestError, match="a vCPU is running") as refused:
            vm.register_coalesced_mmio(ZONE + abi.PAGE_SIZE, 8)
        assert refused.value.errno == errno.EBUSY


def test_there_are_at_most_eight_vcpus_and_none_after_the_guest_began(tmp_path: Path) -> None:
    name = written(tmp_path, PER_VCPU)
    with machine(name, vcpus=8) as vm, pytest.raises(RequestError, match="no vCPU 8"):
        vm.create_vcpu()
    with machine(name) as vm:
        assert isinstance(vm.vcpus[0].run(LIMIT), tuple)
        with pytest.raises(RequestError, match="the guest has begun"):
            vm.create_vcpu()


@pytest.mark.parametrize("index", [0, 1])
def test_the_death_of_the_guest_process_ends_the_wait_for_any_vcpu(
    tmp_path: Path, index: int
) -> None:
    name = written(tmp_path, "def guest(vcpu):\n    vcpu.wait_interrupt(1)")
    with machine(name, vcpus=2) as vm:
        for vcpu in vm.vcpus:
            vcpu.handle.enter()
        os.kill(vm.process.pid, signal.SIGKILL)
        with pytest.raises(PeerDied, match="SIGKILL"):
            vm.vcpus[index].run(LIMIT)
