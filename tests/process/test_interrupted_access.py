"""An access that a guest's signal handler interrupts by an exception does not affect the next."""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from coalesced.devices.bus.region import Region
from coalesced.hv import abi, client
from coalesced.hv.abi import OP_OUT
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.errors import RequestError
from coalesced.hv.outcome import Exit
from coalesced.vmm.accel.direct import DirectAccelerator
from coalesced.vmm.accel.recording import RecordingAccelerator
from coalesced.vmm.machine import Machine
from helpers.hv_processes import machine, within
from helpers.vmm_cli import until

POLICIES = pytest.mark.parametrize("policy", list(WaitPolicy), ids=lambda p: p.name.lower())
HEAD = """\
import os, signal
import numpy as np
from coalesced.hv.abi import OP, OP_LOAD, OP_STORE

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


def next_exit(vm: client.Vm) -> Exit:
    got = vm.vcpus[0].run(10.0)
    assert isinstance(got, tuple), "the guest does not exit"
    return got


def interrupt(vm: client.Vm, folder: Path) -> None:
    """Have the guest's handler raise, and wait until it has."""
    os.kill(vm.process.pid, signal.SIGUSR1)
    until((folder / "interrupted.py.raised").exists)


def answered(vm: client.Vm, value: int) -> Exit:
    vm.vcpus[0].complete(value)
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
            "operation 3 is carried out; earlier ones are done, later ones are not begun"
        )


def test_requests_are_answered_whatever_the_guest_s_handlers_raise(tmp_path: Path) -> None:
    """A request that arrives during the handler is served once."""
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
                with pytest.raises(RequestError, match="no vCPU 9"):
                    vm.request(abi.KVM_CREATE_VCPU, abi.HV_REQUEST.pack(9))
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


IN_PROCESS = """\
import os, signal, time
from signal import getsignal

class Given(Exception):
    pass

def give_up(*_):
    raise Given

def access(vcpu, notes, end):
    # Python 3.13 has the end of a loop's body outside of a `try` around the loop alone.
    signal.setitimer(signal.ITIMER_REAL, 0.0005)
    while time.monotonic() < end:
        vcpu.out8(0x20, 1)
        notes.append(vcpu.in8(0x20))

def main(vcpu):
    assert signal.signal(signal.SIGALRM, give_up) is signal.SIG_DFL
    assert getsignal(signal.SIGALRM) is give_up
    notes, given, end = [], 0, time.monotonic() + 30
    while given < 200 and time.monotonic() < end:
        try:
            access(vcpu, notes, end)
        except Given:
            given += 1
            notes.append(vcpu.in8(0x20))
    vcpu.out8(0x21, given == 200 and set(notes) == {0xA5})
    signal.setitimer(signal.ITIMER_REAL, 0.01)  # comes when the guest is over
"""


@pytest.mark.parametrize("make", [DirectAccelerator, RecordingAccelerator])
def test_a_handler_of_a_guest_in_this_process_enters_no_device(
    tmp_path: Path, make: type[DirectAccelerator]
) -> None:
    seen: list[tuple[int, int]] = []
    halfway = 0

    def write(offset: int, _size: int, value: int) -> None:
        nonlocal halfway
        halfway += 1
        sum(range(500))  # time for the alarm
        halfway -= 1
        seen.append((offset, value))

    def read(_offset: int, _size: int) -> int:
        sum(range(500))
        return 0xA5

    path = tmp_path / "in_process.py"
    path.write_text(IN_PROCESS)
    before = signal.getsignal(signal.SIGALRM)
    accel = make()
    gc.disable()  # what a handler raises in a call of the collector's goes nowhere
    try:
        with Machine(accel) as board:
            board.ports.map(Region("slow", 2, read=read, write=write), 0x20)
            board.run(f"{path}:main")
            signal.sigtimedwait([], 0.02)  # the last alarm does nothing, and ends nobody
            assert (halfway, board.counters.failed_writes, seen[-1]) == (0, 0, (1, 1))
            assert len(seen) == board.counters.single_writes
            if isinstance(accel, RecordingAccelerator):
                recorded = [
                    step for step in accel.recordings[0].steps if isinstance(step, np.ndarray)
                ]
                assert (np.concatenate(recorded)["kind"] == OP_OUT).sum() == len(seen)
    finally:
        gc.enable()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_handler_of_a_guest_in_this_process_ends_its_wait(tmp_path: Path) -> None:
    path = tmp_path / "waits.py"
    path.write_text(
        IN_PROCESS.split("def main", maxsplit=1)[0]
        + "def main(vcpu):\n    signal.signal(signal.SIGALRM, give_up)\n"
        "    try:\n        signal.setitimer(signal.ITIMER_REAL, 0.02)\n"
        "        vcpu.wait_interrupt(1, 20.0)\n    except Given:\n"
        "        vcpu.out8(0x20, 7)\n"
    )
    before = signal.getsignal(signal.SIGALRM)
    try:
        with Machine(DirectAccelerator()) as board:
            board.run(f"{path}:main")
            assert board.counters.single_writes == 1
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_handler_that_a_guest_in_this_process_replaced_is_back_after_it(tmp_path: Path) -> None:
    path = tmp_path / "replaces.py"
    path.write_text(
        "import signal\ndef main(vcpu):\n"
        "    signal.signal(signal.SIGUSR1, lambda *_: vcpu.out8(0x20, 1))\n"
        "    signal.raise_signal(signal.SIGUSR1)\n"
    )
    came: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: came.append(number))
    try:
        with Machine(DirectAccelerator()) as board:
            board.run(f"{path}:main")
            assert (board.counters.single_writes, came) == (1, [])
            signal.raise_signal(signal.SIGUSR1)
            assert came == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)
