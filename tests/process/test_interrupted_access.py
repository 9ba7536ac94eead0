"""An access that a signal handler of the guest gives up leaves nothing to the next one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from helpers.hv_processes import machine, within
from helpers.vmm_cli import until

from hv import abi, client
from hv.doorbell import WaitPolicy
from hv.errors import RequestError

POLICIES = pytest.mark.parametrize("policy", list(WaitPolicy), ids=lambda p: p.name.lower())
HEAD = """\
import os, signal
import numpy as np
from hv.abi import OP, OP_LOAD, OP_STORE

class Given(Exception):
    pass

def give_up(*_):
    open(__file__ + ".raised", "w").close()
    raise Given

def main(vcpu):
    signal.signal(signal.SIGUSR1, give_up)
    notes = []
    try:
        access(vcpu)
    except Given as error:
        notes = getattr(error, "__notes__", [])
    vcpu.out32(0x10, len(notes))
    vcpu.write_memory(0x100000, " ".join(notes).encode())
    vcpu.store8(0x90000, vcpu.load8(0x90001))
"""


def guest(folder: Path, access: str) -> str:
    path = folder / "interrupted.py"
    path.write_text(HEAD + "\ndef access(vcpu):\n    " + access + "\n")
    return f"{path}:main"


def next_exit(vm: client.Vm) -> client.Exit:
    assert vm.vcpu is not None
    got = vm.vcpu.run(10.0)
    assert isinstance(got, tuple), "the guest does not exit"
    return got


def interrupt(vm: client.Vm, folder: Path) -> None:
    """Have the guest's handler raise, and wait until it has."""
    os.kill(vm.process.pid, signal.SIGUSR1)
    until((folder / "interrupted.py.raised").exists)


def answered(vm: client.Vm, value: int) -> client.Exit:
    assert vm.vcpu is not None
    vm.vcpu.complete(value)
    return next_exit(vm)


@POLICIES
@pytest.mark.parametrize("access", ["vcpu.load32(0x90010)", "vcpu.in32(0x20)"])
def test_the_answer_that_comes_late_is_not_the_next_load_s(
    tmp_path: Path, policy: WaitPolicy, access: str
) -> None:
    with machine(guest(tmp_path, access), policy=policy) as vm, within(20):
        assert next_exit(vm)[3] is False
        interrupt(vm, tmp_path)
        # The guest's next operation waits for this, and then the exit is its own.
        assert answered(vm, 0xDEAD) == (abi.KVM_EXIT_IO, 0x10, 4, True, 0)
        assert next_exit(vm) == (abi.KVM_EXIT_MMIO, 0x90001, 1, False, 0)
        assert answered(vm, 0xA5) == (abi.KVM_EXIT_MMIO, 0x90000, 1, True, 0xA5)
        assert next_exit(vm)[0] == abi.KVM_EXIT_HLT


def test_a_store_across_pages_is_carried_out_whole_all_the_same(tmp_path: Path) -> None:
    with machine(guest(tmp_path, "vcpu.store32(0x90ffe, 0x44332211)")) as vm, within(20):
        assert next_exit(vm) == (abi.KVM_EXIT_MMIO, 0x90FFE, 2, True, 0x2211)
        interrupt(vm, tmp_path)
        assert next_exit(vm) == (abi.KVM_EXIT_MMIO, 0x91000, 2, True, 0x4433)
        assert next_exit(vm) == (abi.KVM_EXIT_IO, 0x10, 4, True, 0)


BULK = [
    "vcpu.store_many(np.arange(0x90010, 0x90020), 7)",
    "vcpu.fill(0x90010, 16, 7)",
    "vcpu.execute(np.array([(OP_STORE, 1, a, 7) for a in range(0x90010, 0x90020)], OP))",
]


@pytest.mark.parametrize("access", BULK, ids=["store_many", "fill", "execute"])
def test_a_bulk_operation_loses_and_doubles_no_store_and_says_how_far_it_came(
    tmp_path: Path, access: str
) -> None:
    with machine(guest(tmp_path, access)) as vm, within(20):
        for address in range(0x90010, 0x90014):
            assert next_exit(vm) == (abi.KVM_EXIT_MMIO, address, 1, True, 7)
        interrupt(vm, tmp_path)
        assert next_exit(vm) == (abi.KVM_EXIT_IO, 0x10, 4, True, 1)
        next_exit(vm)
        said = vm.memory[0].mapping.read(0, 100).split(b"\0")[0].decode()
        assert said == (
            "operation 3 is carried out; those before it are done, those behind it are not begun"
        )


def test_requests_are_answered_whatever_the_guest_s_handlers_raise(tmp_path: Path) -> None:
    """A request that meets the handler is served once, by then or in the next wait."""
    loop = "[vcpu.in8(0x20) for _ in range(1000)]"
    source = HEAD.replace("access(vcpu)\n    except", "loop(vcpu)\n    except")
    path = tmp_path / "requested.py"
    path.write_text(
        source
        + "\ndef loop(vcpu):\n    while True:\n        try:\n            "
        + loop
        + "\n            return\n        except Given:\n            pass\n"
    )
    with machine(f"{path}:main") as vm, within(60):
        got = next_exit(vm)
        for number in range(300):
            os.kill(vm.process.pid, signal.SIGUSR1)
            vm.register_coalesced_mmio(0xC0000 + number % 2, 1)
            vm.unregister_coalesced_mmio(0xC0000 + number % 2, 1)
            assert vm.statistics().exits > 0
            assert got == (abi.KVM_EXIT_IO, 0x20, 1, False, 0)
            got = answered(vm, 1)


class Late(Exception):
    pass


def test_a_reply_that_the_vmm_did_not_wait_for_is_not_the_next_request_s(tmp_path: Path) -> None:
    """The guest process is stopped while the request is made, so that the alarm comes first."""

    def late(*_: object) -> None:
        raise Late

    with machine(guest(tmp_path, "vcpu.in8(0x20)")) as vm:
        next_exit(vm)
        before = signal.signal(signal.SIGALRM, late)
        try:
            for _ in range(5):
                os.kill(vm.process.pid, signal.SIGSTOP)
                signal.setitimer(signal.ITIMER_REAL, 0.02)
                with pytest.raises(Late):
                    vm.request(abi.KVM_GET_API_VERSION, b"")
                os.kill(vm.process.pid, signal.SIGCONT)
                assert vm.statistics().exits == 1
                with pytest.raises(RequestError, match="no vCPU 1"):
                    vm.create_vcpu(1)
                assert vm.request(abi.KVM_GET_API_VERSION, b"")[0] == abi.KVM_API_VERSION
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def test_a_load_that_the_vmm_did_not_answer_is_told_again(tmp_path: Path) -> None:
    """An exception came between the exit and its answer; the guest must not go on with zero."""
    with machine(guest(tmp_path, "vcpu.in8(0x20)")) as vm, within(20):
        first = next_exit(vm)
        assert next_exit(vm) == first == (abi.KVM_EXIT_IO, 0x20, 1, False, 0)
        assert answered(vm, 1) == (abi.KVM_EXIT_IO, 0x10, 4, True, 0)
