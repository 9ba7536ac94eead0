"""Several vCPUs on the emulated kernel and on this machine's own: each one's entries and exits."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random

import kvm_vcpus_recorded as recorded
import pytest

from coalesced.hv import abi
from coalesced.hv.abi import OP_STORE
from coalesced.hv.kvm import KvmVm
from coalesced.hv.kvm_vcpus import KvmVcpus
from coalesced.hv.outcome import Event
from coalesced.hv.ring import Consumer
from helpers.hv_processes import within
from helpers.kvm_several import QUEUED, ProcessVcpus, RealVcpus, Several, window
from helpers.kvm_sides import CODE, Operation, needs_several

LIMIT = 60
VCPUS = pytest.mark.parametrize("vcpus", recorded.COUNTS)
SIDES = pytest.mark.parametrize(
    "make", [pytest.param(RealVcpus, marks=needs_several, id="kvm"), ProcessVcpus]
)


@VCPUS
@SIDES
def test_each_vcpus_entries_exits_and_loads_are_those_recorded_on_the_real_kvm(
    make: Callable[[int], Several], vcpus: int
) -> None:
    """In the vCPU's own order; how those of several follow each other is open."""
    with within(LIMIT):
        got = recorded.found_by(make, vcpus)
    assert any(event[0] for event in got[0][0].events)
    assert recorded.plain(got) == recorded.read(vcpus)


@needs_several
@VCPUS
def test_random_programs_of_several_vcpus(vcpus: int) -> None:
    """Others each time."""
    seed = Random().getrandbits(32)
    print(f"seed {seed}")
    random = Random(seed)
    with within(LIMIT), ProcessVcpus(vcpus) as emulated, RealVcpus(vcpus) as real:
        for _ in range(20):
            programs = [
                recorded.accesses(random, index, recorded.WRITES // vcpus) for index in range(vcpus)
            ]
            assert emulated.run(programs) == real.run(programs)


def writes_of(vcpus: int, count: int) -> list[list[Operation]]:
    """Numbers that each vCPU writes to its zone: bulk stores, and single ones among them."""
    return [
        [
            (OP_STORE, 4, window(index) + QUEUED + 4 * (at % 64 if at % 100 < 90 else 0), at)
            for at in range(count)
        ]
        for index in range(vcpus)
    ]


@VCPUS
@SIDES
def test_rings_that_several_vcpus_fill_lose_repeat_and_reorder_nothing(
    make: Callable[[int], Several], vcpus: int
) -> None:
    """Which of the writes exit, as the ring is full, is a matter of time; each comes once."""
    programs = writes_of(vcpus, 3000)
    with within(LIMIT), make(vcpus) as side:
        got = side.run(programs)
    exits = 0
    for seen, ops in zip(got, programs, strict=True):
        assert seen.writes() == [(False, False, at, size, value) for _, size, at, value in ops]
        exits += sum(not queued for queued, *_ in seen.events)
    assert 0 < exits < 1000


# --- machine code ---

RAM = 0x1_0000
SAID, HEARD = RAM, RAM + 64
ZONE, EXIT_PORT = window(0) + QUEUED, 0x80
STACK = 256


def _u32(number: int) -> bytes:
    return number.to_bytes(4, "little")


def _messages(rounds: int) -> bytes:
    """vCPU 0 queues a number and then says so in RAM; vCPU 1 waits for it, exits and answers."""
    first = (
        b"\xbb" + _u32(1)  # mov ebx, 1
        + b"\x89\x1d" + _u32(ZONE)  # again: mov [ZONE], ebx
        + b"\x89\x1d" + _u32(SAID)  # mov [SAID], ebx
        + b"\x39\x1d" + _u32(HEARD) + b"\x75\xf8"  # wait: cmp [HEARD], ebx; jne wait
        + b"\x43\x81\xfb" + _u32(rounds + 1) + b"\x75\xe3"  # inc ebx; past the last?
        + b"\xf4"  # hlt
    )  # fmt: skip
    second = (
        b"\xbb" + _u32(1)
        + b"\x39\x1d" + _u32(SAID) + b"\x75\xf8"
        + b"\x89\xd8\xe7" + bytes([EXIT_PORT])  # mov eax, ebx; out EXIT_PORT, eax
        + b"\x89\x1d" + _u32(HEARD)
        + b"\x43\x81\xfb" + _u32(rounds + 1) + b"\x75\xe5"
        + b"\xf4"
    )  # fmt: skip
    return b"\x85\xc0\x75" + bytes([len(first)]) + first + second  # test eax, eax; jnz second


def load(vm: KvmVm, code: bytes, vcpus: int) -> None:
    """Create vCPUs that all begin with the code, each with its index in eax, and RAM."""
    memory = vm.set_user_memory_region(0, CODE, 0x2000)
    vm.set_user_memory_region(1, RAM, 0x1000)
    assert memory is not None
    memory.mapping.write(0, code)
    for index in range(vcpus):
        vm.create_vcpu().start_at(CODE, CODE + 0x2000 - STACK * index, index)


def together(vm: KvmVm) -> tuple[KvmVcpus, Consumer]:
    """All vCPUs of a VM, and its ring."""
    runner = vm.all_vcpus()
    assert isinstance(runner, KvmVcpus)
    return runner, vm.vcpus[0].ring


@pytest.fixture
def vm() -> Iterator[KvmVm]:
    made = KvmVm()
    with within(LIMIT):
        yield made
    made.close()


@needs_several
def test_what_a_vcpu_queued_before_it_wrote_to_ram_is_there_when_another_one_that_saw_it_exits(
    vm: KvmVm,
) -> None:
    rounds = 2000
    load(vm, _messages(rounds), 2)
    vm.register_coalesced_mmio(ZONE, 4)
    runner, ring = together(vm)
    for number in range(1, rounds + 1):
        assert runner.run(10) == (abi.KVM_EXIT_IO, EXIT_PORT, 4, True, number)
        assert ring.peek().tolist() == [(ZONE, 4, 0, number)]
        ring.commit(1)
        runner.enter()
    halted = (abi.KVM_EXIT_HLT, 0, 0, False, 0)
    assert [runner.run(10), runner.park(), runner.run(10), runner.park()] == [
        halted, True, halted, False,
    ]  # fmt: skip


VECTOR = 0x20
TABLES = 0x1000  # offset of the descriptor tables in the code's memory


def _interruptible() -> bytes:
    """Take interrupts in a loop without end; each writes the vCPU's index to EXIT_PORT."""
    gdt, idt = CODE + TABLES, CODE + TABLES + 0x100
    pointers = TABLES + 0x80
    code = (
        b"\x0f\x01\x15" + _u32(CODE + pointers)  # lgdt
        + b"\x0f\x01\x1d" + _u32(CODE + pointers + 8)  # lidt
        + b"\xfb\xeb\xfe"  # sti; for ever: jmp for ever
    )  # fmt: skip
    handler = CODE + len(code)
    # out EXIT_PORT, eax; add esp, 12; sti; jmp $: KVM's emulator lacks IRET in protected mode.
    code += b"\xe7" + bytes([EXIT_PORT]) + b"\x83\xc4\x0c\xfb\xeb\xfe"
    flat = [0, 0x00CF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF]  # none, code, data
    gate = handler & 0xFFFF | 8 << 16 | 0x8E00 << 32 | handler >> 16 << 48
    tables = bytearray(0x300)
    tables[:24] = b"".join(each.to_bytes(8, "little") for each in flat)
    tables[0x80:0x86] = (23).to_bytes(2, "little") + _u32(gdt)
    tables[0x88:0x8E] = (8 * VECTOR + 7).to_bytes(2, "little") + _u32(idt)
    at = 0x100 + 8 * VECTOR
    tables[at : at + 8] = gate.to_bytes(8, "little")
    return code.ljust(TABLES, b"\0") + tables


@needs_several
def test_each_vcpu_takes_its_own_interrupts_while_the_others_run(vm: KvmVm) -> None:
    load(vm, _interruptible(), 4)
    runner, _ = together(vm)
    assert runner.run(0.001) is Event.TIMED_OUT
    for index in (2, 0, 3, 1, 1, 2):
        vcpu = vm.vcpus[index]
        runner.pause()
        vcpu.handle.interrupt_window(True)
        opened = runner.run(10)
        assert isinstance(opened, tuple)
        assert (opened[0], runner.current) == (abi.KVM_EXIT_IRQ_WINDOW_OPEN, index)
        vcpu.handle.interrupt_window(False)
        vcpu.interrupt(VECTOR)
        assert runner.run(10) == (abi.KVM_EXIT_IO, EXIT_PORT, 4, True, index)
        assert runner.current == index
        runner.enter()


# --- who is served next, and how it ends ---

EXITS_ALWAYS = b"\xe5" + bytes([EXIT_PORT]) + b"\xeb\xfc"  # in eax, EXIT_PORT; again
FOR_EVER = b"\xeb\xfe"


@needs_several
def test_of_vcpus_that_exit_all_the_time_each_is_served_in_turn(vm: KvmVm) -> None:
    """An exit that nobody handles is returned again after those of the others."""
    load(vm, EXITS_ALWAYS, 4)
    runner, _ = together(vm)

    def served() -> int:
        runner.run(10)
        return runner.current

    waiting = set[int]()
    while len(waiting) < 4:
        waiting.add(served())
    order = [served() for _ in range(8)]
    assert order == [(order[0] + at) % 4 for at in range(8)]


@needs_several
def test_an_exit_is_returned_until_it_is_handled_and_after_a_pause(vm: KvmVm) -> None:
    load(vm, EXITS_ALWAYS, 1)
    vm.create_vcpu().start_at(CODE + 0x1000, CODE + 0x2000)
    vm.memory[0].mapping.write(0x1000, FOR_EVER)
    runner, _ = together(vm)
    loaded = (abi.KVM_EXIT_IO, EXIT_PORT, 4, False, 0)
    for _ in range(100):
        assert runner.run(10) == loaded
        runner.pause()
        assert runner.run(10) == loaded
        runner.complete(7)
        runner.enter()
    assert runner.current == 0


def calls(runner: KvmVcpus) -> tuple[Callable[[], object], ...]:
    """Those that need the threads."""
    return partial(runner.run, 0), partial(runner.complete, 0), runner.enter, runner.park


def threads() -> list[str]:
    """Names of the vCPUs' threads; a vCPU's first KVM_RUN makes one of the kernel's own, too."""
    names = list[str]()
    for task in Path("/proc/self/task").glob("*/comm"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it ends just now
            names.append(task.read_text().strip())
    return sorted(name for name in names if name.startswith("vCPU"))


@needs_several
def test_no_vcpu_runs_after_a_pause(vm: KvmVm) -> None:
    """Each counts in RAM without end: behind a pause the numbers stay, behind a run they grow."""
    counting = b"\xff\x04\x85" + _u32(RAM) + b"\xeb\xf7"  # inc dword [RAM + 4 * eax]; again
    load(vm, counting, 4)
    runner, _ = together(vm)
    ram = vm.memory[1].mapping
    last, rounds = bytes(16), 0
    while rounds < 200 or not all(any(last[at : at + 4]) for at in range(0, 16, 4)):
        rounds += 1
        assert runner.run(0.0005) is Event.TIMED_OUT
        runner.pause()
        last = ram.read(0, 16)
        assert [ram.read(0, 16) for _ in range(200)] == [last] * 200


@needs_several
def test_a_vcpu_that_is_parked_while_it_runs_leaves_the_guest_at_a_pause_too(vm: KvmVm) -> None:
    counting = b"\xff\x05" + _u32(RAM) + b"\xeb\xf8"  # inc dword [RAM]; again
    load(vm, b"\xe7" + bytes([EXIT_PORT]) + counting, 1)
    vm.create_vcpu().start_at(CODE + 0x1000, CODE + 0x2000)
    vm.memory[0].mapping.write(0x1000, FOR_EVER)
    runner, _ = together(vm)
    ram = vm.memory[1].mapping
    assert runner.run(10) == (abi.KVM_EXIT_IO, EXIT_PORT, 4, True, 0)
    runner.enter()
    assert runner.park()
    while not any(ram.read(0, 4)):
        pass
    runner.pause()
    last = ram.read(0, 4)
    assert [ram.read(0, 4) for _ in range(2000)] == [last] * 2000


@needs_several
def test_threads_end_with_the_vm_whatever_their_vcpus_do() -> None:
    """Also when it is closed twice, and nothing runs afterwards."""
    for code in (FOR_EVER, EXITS_ALWAYS, b"\xf4"):
        vm = KvmVm()
        load(vm, code, 8)
        runner, _ = together(vm)
        runner.run(0.001)
        assert threads() == [f"vCPU {index}" for index in range(8)]
        vm.close()
        with within(LIMIT):
            while threads():
                pass  # one that has been joined is in /proc for a moment yet
        vm.close()
        for call in calls(runner):
            with pytest.raises(RuntimeError, match="threads of these vCPUs have ended"):
                call()


@needs_several
def test_signals_of_others_take_no_vcpu_out_of_the_guest(vm: KvmVm) -> None:
    load(vm, EXITS_ALWAYS, 2)
    runner, _ = together(vm)
    child = os.fork()
    if child == 0:
        parent = os.getppid()
        for _ in range(1000):
            os.kill(parent, signal.SIGRTMIN)
        os._exit(0)
    ended, exits = 0, 0
    while not ended or exits < 100:
        assert runner.run(10) == (abi.KVM_EXIT_IO, EXIT_PORT, 4, False, 0)
        runner.complete(0)
        runner.enter()
        exits += 1
        if not ended:
            ended, status = os.waitpid(child, os.WNOHANG)
    assert status == 0


@needs_several
def test_a_fork_leaves_the_threads_to_its_parent(vm: KvmVm) -> None:
    load(vm, EXITS_ALWAYS, 3)
    runner, _ = together(vm)
    exited = runner.run(10)
    child = os.fork()
    if child == 0:
        signal.alarm(10)  # it hangs
        raised = 0
        for call in calls(runner):
            try:
                call()
            except RuntimeError:
                raised += 1
        vm.close()
        os._exit(4 - raised)
    assert os.waitpid(child, 0)[1] == 0
    runner.complete(0)
    runner.enter()
    assert runner.run(10) == exited


@needs_several
def test_a_machine_has_at_most_eight_vcpus(vm: KvmVm) -> None:
    load(vm, FOR_EVER, 9)
    with pytest.raises(ValueError, match="expected 1 to 8 handles, got 9"):
        vm.all_vcpus()
