"""Signals to either process, and what is left after either was killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import psutil
import pytest

import coalesced.hv
from coalesced.hv import abi, client
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.errors import PeerDied
from coalesced.hv.process import GuestProcess
from helpers.descriptors import descriptors
from helpers.hv_guests import ENDLESS, Write, drained, go_on, run, vcpu_of, writer
from helpers.hv_processes import RAM, ZONE, gone, is_running, machine, names_by, within

SOURCES = Path(coalesced.hv.__file__).parents[2]
POLICIES = pytest.mark.parametrize("policy", list(WaitPolicy), ids=lambda p: p.name.lower())
HLT, MMIO = abi.KVM_EXIT_HLT, abi.KVM_EXIT_MMIO


@pytest.fixture
def written(tmp_path: Path) -> Write:
    """Write a guest."""
    return writer(tmp_path)


# --- signals ---


def test_ctrl_c_is_not_the_guest_process_affair(written: Write) -> None:
    """At its start and later; the VMM's own handler decides."""
    process = GuestProcess()
    os.kill(process.pid, signal.SIGINT)
    with within(20):
        vm = client.Vm(process, 1, WaitPolicy.ADAPTIVE)
        try:
            vm.create_vcpu()
            vm.load_guest(
                written("def main(vcpu):\n    vcpu.load8(0x5000)\n    vcpu.load8(0x5001)\n")
            )
            for address in (0x5000, 0x5001):
                os.kill(process.pid, signal.SIGINT)
                assert run(vm)[1] == address
                vcpu_of(vm).complete(0)
            assert run(vm)[0] == HLT
        finally:
            vm.close()


@POLICIES
def test_ctrl_c_ends_a_wait_of_the_vmm(written: Write, policy: WaitPolicy) -> None:
    """The wait raises what the handler raises, under every policy."""
    name = written("def main(vcpu):\n    vcpu.wait_interrupt()\n")
    with within(20), machine(name, policy=policy) as vm:
        vcpu_of(vm).handle.enter()
        with pytest.raises(TimeoutError, match=r"within 0\.05"), within(0.05):
            vcpu_of(vm).run()
        vm.irq_line(0, True)
        assert run(vm)[0] == HLT


# --- kill -9 ---


def kill_the_guest(name: str, seed: int, policy: WaitPolicy) -> None:
    """Kill a storing guest at some moment; every published entry comes, in order, then PeerDied."""
    chance = random.Random(seed)
    with machine(name, policy=policy, ring_pages=chance.choice([1, 2, 16])) as vm:
        seen: list[int] = []
        rounds = chance.randrange(40)
        while rounds:
            rounds -= 1
            got = vcpu_of(vm).run(chance.random() * 0.0005, policy is WaitPolicy.POLL)
            seen += drained(vm)
            if isinstance(got, tuple):
                assert got[:4] == (MMIO, ZONE, 8, True), seed
                seen.append(got[4])
        signal.pidfd_send_signal(vm.process.pidfd, signal.SIGKILL)
        with within(15), pytest.raises(PeerDied, match="killed by SIGKILL"):
            go_on(vm, seen)
        seen += drained(vm)
        stored = int.from_bytes(vm.memory[0].mapping.read(0, 8), "little")
        assert seen == list(range(len(seen))), f"seed {seed}: a gap or a repetition"
        assert stored <= len(seen) <= stored + 1, f"seed {seed}: {stored} stored, {len(seen)} seen"
        assert names_by(vm.process.pid, os.getpid()) == []


@POLICIES
def test_a_guest_killed_at_any_moment_loses_no_published_write(
    written: Write, policy: WaitPolicy
) -> None:
    """The guest counts its stores in RAM; as many arrive."""
    name = written(ENDLESS)
    for _ in range(3):
        seed = random.getrandbits(32)
        with within(30):
            kill_the_guest(name, seed, policy)


@pytest.mark.heavy
@POLICIES
def test_a_guest_killed_at_many_moments(written: Write, policy: WaitPolicy) -> None:
    """The same at more moments."""
    name = written(ENDLESS)
    for _ in range(100):
        kill_the_guest(name, random.getrandbits(32), policy)


VMM = """
    import sys
    from helpers.hv_processes import machine
    from coalesced.hv.doorbell import WaitPolicy

    with machine(sys.argv[1], policy=WaitPolicy[sys.argv[2]]) as vm:
        print(vm.process.pid, flush=True)
        while True:
            vm.vcpus[0].run(None)
            ring = vm.vcpus[0].ring
            ring.commit(len(ring.peek()))
"""


def kill_the_vmm(name: str, policy: WaitPolicy, seed: int, sign: int = signal.SIGKILL) -> None:
    """End a VMM at some moment of its run; its guest process is gone within a second."""
    delay = random.Random(seed).random() * 0.03
    environment = {**os.environ, "PYTHONPATH": f"{SOURCES}:{SOURCES.parent / 'tests'}"}
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(VMM), name, policy.name],
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    ) as vmm:
        assert vmm.stdout is not None
        try:
            pid = int(vmm.stdout.readline())
            pidfd = os.pidfd_open(pid)
            with pytest.raises(subprocess.TimeoutExpired):  # it runs on, until some moment
                vmm.wait(delay)
        finally:
            vmm.send_signal(sign)
        try:
            assert gone(pidfd, 15), f"seed {seed}: the guest process {pid} outlives its VMM"
        finally:
            os.close(pidfd)
    assert not is_running(pid)
    assert names_by(pid, vmm.pid) == [], seed


@POLICIES
def test_a_guest_process_ends_with_its_vmm(written: Write, policy: WaitPolicy) -> None:
    """The VMM is killed while the guest stores and it drains."""
    with within(30):
        kill_the_vmm(written(ENDLESS), policy, random.getrandbits(32))


@pytest.mark.parametrize(
    "source",
    [
        "def main(vcpu):\n    while True: pass\n",
        "def main(vcpu):\n    vcpu.wait_interrupt()\n",
        "import time\ndef main(vcpu):\n    time.sleep(1000)\n",
        "from contextlib import suppress\n"
        "def main(vcpu):\n    while True:\n        with suppress(BaseException): vcpu.load8(0)\n",
    ],
    ids=["busy", "halted", "asleep", "stubborn"],
)
def test_a_guest_process_ends_with_its_vmm_whatever_it_does(written: Write, source: str) -> None:
    """Even if it never looks at the pipes, or catches every exception."""
    with within(30):
        kill_the_vmm(written(source), WaitPolicy.BLOCK, random.getrandbits(32))


@pytest.mark.heavy
@POLICIES
def test_a_vmm_killed_at_many_moments(written: Write, policy: WaitPolicy) -> None:
    """The same at more moments."""
    for _ in range(30):
        kill_the_vmm(written(ENDLESS), policy, random.getrandbits(32))


# --- nothing is left ---


def test_a_closed_machine_leaves_nothing(written: Write) -> None:
    """No descriptor, name or process stays, whatever its state was."""
    name = written(ENDLESS)
    with machine(name) as vm:  # whatever is opened once and for all
        run(vm)
    before, children = descriptors(), set(psutil.Process().children())

    def unused() -> None:
        GuestProcess().close()

    def without_vcpu() -> None:
        client.Vm(GuestProcess(), 1, WaitPolicy.BLOCK).close()

    def never_run() -> None:
        with machine(name):
            pass

    def running() -> None:
        with machine(name) as vm:
            run(vm)
            vcpu_of(vm).handle.enter()

    def killed() -> None:
        with machine(name) as vm:
            signal.pidfd_send_signal(vm.process.pidfd, signal.SIGKILL)
            with pytest.raises(PeerDied):
                go_on(vm, [])

    for state in (unused, without_vcpu, never_run, running, killed):
        with within(30):
            state()
        assert descriptors() - before == set(), state.__name__
    assert names_by(os.getpid()) == []
    assert set(psutil.Process().children()) <= children


def test_modules_of_the_working_directory_do_not_get_in(
    written: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A json.py there is not imported."""
    (tmp_path / "json.py").write_text("raise SystemExit('from the working directory')\n")
    name = written("def main(vcpu): pass\n")
    monkeypatch.setenv("PYTHONPATH", str(SOURCES))
    monkeypatch.chdir(tmp_path)
    with within(20), machine(name) as vm:
        assert run(vm)[0] == HLT


def test_ram_is_shared_both_ways(written: Write) -> None:
    """The guest reads what a device writes to RAM, without any exit."""
    name = written(
        f"""
        def main(vcpu):
            while vcpu.load32({RAM:#x}) == 0:
                pass
            vcpu.store32({RAM:#x} + 4, vcpu.load32({RAM:#x}) + 1)
        """
    )
    with within(20), machine(name) as vm:
        vcpu_of(vm).handle.enter()
        view = np.frombuffer(memoryview(vm.memory[0].mapping), dtype=np.uint32)
        view[0] = 41
        assert run(vm)[0] == HLT
        assert view[1] == 42
        vm.set_user_memory_region(0, 0, 0)
