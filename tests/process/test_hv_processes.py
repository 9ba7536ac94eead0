"""Both processes: accesses, requests and answers between them, and a guest's end."""

from __future__ import annotations

import errno
import signal
from pathlib import Path

import pytest

from coalesced.hv import abi, client, core
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.errors import CoalescedError, PeerDied, RequestError, SegmentError
from coalesced.hv.outcome import Event
from coalesced.hv.process import GuestProcess
from helpers.hv_guests import ENDLESS, Write, drained, go_on, run, vcpu_of, writer
from helpers.hv_processes import RAM, ZONE, machine, within

POLICIES = pytest.mark.parametrize("policy", list(WaitPolicy), ids=lambda p: p.name.lower())
HLT, MMIO, IO = abi.KVM_EXIT_HLT, abi.KVM_EXIT_MMIO, abi.KVM_EXIT_IO
CRASH = (abi.KVM_EXIT_SYSTEM_EVENT, abi.KVM_SYSTEM_EVENT_CRASH, 0, False, 0)


@pytest.fixture
def written(tmp_path: Path) -> Write:
    """Write a guest."""
    return writer(tmp_path)


# --- end to end ---


@pytest.mark.parametrize(
    ("policy", "ring_pages"),
    [
        (WaitPolicy.BLOCK, 1),
        (WaitPolicy.ADAPTIVE, 1),
        (WaitPolicy.POLL, 16),
        (WaitPolicy.ADAPTIVE, 0),
    ],
)
def test_a_guest_stores_loads_and_ends(written: Write, policy: WaitPolicy, ring_pages: int) -> None:
    """Entries, exits, results of loads, RAM and the halt, in their order, in both processes."""
    name = written(
        f"""
        def main(vcpu, start):
            for n in range(5):
                vcpu.store32({ZONE:#x} + 4 * n, start + n)
            vcpu.out8(0x80, 0x55)
            vcpu.store64({RAM:#x}, vcpu.load32(0x5000) + vcpu.in16(0x60))
        """
    )
    with within(20), machine(name, {"start": 100}, policy=policy, ring_pages=ring_pages) as vm:
        assert vm.check_extension(abi.KVM_CAP_COALESCED_MMIO) == (2 if ring_pages else 0)
        if ring_pages:
            assert run(vm) == (IO, 0x80, 1, True, 0x55)
            assert drained(vm) == [100, 101, 102, 103, 104]
        else:
            for n in range(5):
                assert run(vm) == (MMIO, ZONE + 4 * n, 4, True, 100 + n)
            assert run(vm) == (IO, 0x80, 1, True, 0x55)
        assert run(vm) == (MMIO, 0x5000, 4, False, 0)
        vcpu_of(vm).complete(0x12345678)
        assert run(vm) == (IO, 0x60, 2, False, 0)
        vcpu_of(vm).complete(0x1_0001)
        assert run(vm) == (HLT, 0, 0, False, 0)
        assert vm.memory[0].mapping.read(0, 8) == (0x12345679).to_bytes(8, "little")
        coalesced, exits, _ = vm.statistics()
        assert (coalesced, exits) == ((5, 4) if ring_pages else (0, 9))
        assert run(vm) == (HLT, 0, 0, False, 0)


def test_ioctls_of_a_running_guest_stop_it_for_their_time(written: Write) -> None:
    """The guest is kicked out, the zone goes, and its writes exit from then on."""
    with within(20), machine(written(ENDLESS), policy=WaitPolicy.POLL, ring_pages=1024) as vm:
        vcpu = vcpu_of(vm)
        assert vcpu.run(20.0, watch=core.WATCH_RING) is Event.RING_FILLED
        before = drained(vm)
        vm.unregister_coalesced_mmio(ZONE, 1)
        before += drained(vm)
        assert not vcpu.handle.running
        got = run(vm)
        assert got == (MMIO, ZONE, 8, True, len(before))
        assert before == list(range(len(before)))
        vm.register_coalesced_mmio(ZONE, 8)
        assert vcpu.run(20.0, watch=core.WATCH_RING) is Event.RING_FILLED
        assert drained(vm)[0] == len(before) + 1


def test_an_exit_that_came_before_a_request_is_not_lost(written: Write) -> None:
    """`run` returns it after the request was served."""
    name = written("def main(vcpu):\n    vcpu.store8(0x5000, 1)\n    vcpu.store8(0x5001, 2)\n")
    with within(20), machine(name) as vm:
        vcpu = vcpu_of(vm)
        vcpu.handle.enter()
        exit_seen = 0
        while not exit_seen:  # until the guest's exit lies in the run page
            exit_seen = int.from_bytes(vcpu.mapping.read(abi.KVM_RUN_EXIT_REASON, 4), "little")
        vm.statistics()
        assert run(vm) == (MMIO, 0x5000, 1, True, 1)
        assert run(vm) == (MMIO, 0x5001, 1, True, 2)
        assert run(vm)[0] == HLT


@POLICIES
def test_an_interrupt_ends_a_halt(written: Write, policy: WaitPolicy) -> None:
    """Raised while the guest runs."""
    name = written("def main(vcpu):\n    vcpu.store64(0x5000, vcpu.wait_interrupt())\n")
    with within(20), machine(name, policy=policy) as vm:
        assert vcpu_of(vm).run(0.01) is Event.TIMED_OUT
        vm.irq_line(11, True)
        assert run(vm) == (MMIO, 0x5000, 8, True, 1 << 11)


def test_the_process_refuses_what_the_kernel_refuses(written: Write) -> None:
    """As an errno with a text; nothing ends by it."""
    with within(20), machine(written("def main(vcpu): pass")) as vm:
        with pytest.raises(RequestError, match="no such file") as refused:
            vm.load_guest("/no/such/file.py:main")
        assert refused.value.errno == errno.ENOENT
        with pytest.raises(RequestError, match="unknown request 0x7777") as refused:
            vm.request(0x7777, b"")
        assert refused.value.errno == errno.ENOTTY
        assert run(vm)[0] == HLT


class DeafOnce:
    """A vCPU's handle whose first announcement of a request gets lost."""

    def __init__(self, handle: core.VcpuHandle) -> None:
        self.handle = handle
        self.calls = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.handle, name)

    def request(self) -> None:
        self.calls += 1
        if self.calls > 1:
            self.handle.request()


def test_a_request_whose_announcement_is_lost_is_told_again(
    written: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A third process can overwrite the word that announces it; nobody waits for ever."""
    with within(20), machine(written("def main(vcpu): vcpu.load8(0x5000)\n")) as vm:
        assert run(vm)[1] == 0x5000
        deaf = DeafOnce(vcpu_of(vm).handle)
        monkeypatch.setattr(vcpu_of(vm), "handle", deaf)
        assert vm.statistics().exits == 1
        assert deaf.calls == 2


# --- how a guest ends ---


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "raise ValueError('bad thing\\n  happened')",
            "guest.py:3: ValueError: bad thing happened",
        ),
        ("vcpu.store64(2**64 - 1, 0)", "guest.py:3: GuestError: store of 8 bytes at 0xffffffff"),
        ("vcpu.bus.load(0, 3)", "guest.py:3: GuestError: load of 3 bytes at 0x0: expected a size"),
        ("import sys; sys.exit(7)", "guest.py:3: SystemExit: 7"),
        ("raise KeyboardInterrupt", "guest.py:3: KeyboardInterrupt"),
        ("assert False", "guest.py:3: AssertionError"),
        ("undefined", "guest.py:3: NameError: name 'undefined' is not defined"),
    ],
)
def test_a_guest_that_raises_is_a_crash_with_file_and_line(
    written: Write, body: str, said: str
) -> None:
    """A system event; what was queued before it reaches the devices; then it only halts."""
    with within(20), machine(written(f"\ndef main(vcpu):\n    {body!s}\n")) as vm:
        assert run(vm) == CRASH
        assert said in str(vm.guest_error())
        assert "\n" not in str(vm.guest_error())
        assert run(vm)[0] == HLT


def test_what_was_queued_before_a_crash_is_there(written: Write) -> None:
    """Published with the exit."""
    name = written(f"def main(vcpu):\n    vcpu.store8({ZONE:#x}, 7)\n    1 / 0\n")
    with within(20), machine(name) as vm:
        assert run(vm) == CRASH
        assert drained(vm) == [7]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def main(vcpu:\n", "SyntaxError"),
        ("import nothing_of_that_name\n", "line 1: ModuleNotFoundError"),
        ("def other(vcpu): pass\n", "it has no function 'main'"),
        ("main = 3\n", "'main' is not a function"),
        ("import sys\nsys.exit(3)\n", "line 2: SystemExit: 3"),
    ],
)
def test_a_guest_that_cannot_be_loaded_is_enoent(written: Write, source: str, said: str) -> None:
    """One line gives the reason, and the process serves on."""
    process = GuestProcess()
    with within(20):
        vm = client.Vm(process, 1, WaitPolicy.BLOCK)
        try:
            with pytest.raises(RequestError) as refused:
                vm.load_guest(written(source))
            assert refused.value.errno == errno.ENOENT
            assert said in str(refused.value)
            assert vm.check_extension(abi.KVM_CAP_COALESCED_MMIO) == 2
        finally:
            vm.close()


@pytest.mark.parametrize("end", ["", "1 / 0", "while True: vcpu.load8(0)"])
def test_what_a_guest_prints_goes_to_stderr(
    written: Write,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    end: str,
) -> None:
    """It is there when the VMM learns of the guest's end; stdout stays the VMM's."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    name = written(f"def main(vcpu):\n    print('hello from the guest')\n    {end}\n")
    with within(20), machine(name) as vm:
        run(vm)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "hello from the guest\n")


@pytest.mark.parametrize(
    ("policy", "body", "said"),
    [
        (WaitPolicy.BLOCK, "os._exit(3)", "the guest process ended: exit status 3"),
        (WaitPolicy.ADAPTIVE, "os._exit(0)", "the guest process ended: exit status 0"),
        (WaitPolicy.POLL, "os.kill(os.getpid(), 9)", "the guest process ended: killed by SIGKILL"),
        (
            WaitPolicy.BLOCK,
            "os.kill(os.getpid(), 11)",
            "the guest process ended: killed by SIGSEGV",
        ),
        (WaitPolicy.ADAPTIVE, "os.kill(os.getpid(), 40)", "the guest process ended: killed by"),
    ],
)
def test_a_guest_process_that_ends_is_reported_with_how(
    written: Write, policy: WaitPolicy, body: str, said: str
) -> None:
    """PeerDied, by run and by every request; what was published is still in the ring."""
    name = written(
        f"""
        import os, resource
        def main(vcpu):
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            for n in range(10):
                vcpu.store8({ZONE:#x}, n)
            {body}
        """
    )
    with within(20), machine(name, policy=policy) as vm:
        for _ in range(2):
            with pytest.raises(PeerDied) as died:
                run(vm)
            assert said in str(died.value)
        with pytest.raises(PeerDied, match="the guest process ended"):
            vm.statistics()
        assert drained(vm) == list(range(10))


def test_an_endless_guest_ends_with_close(written: Write) -> None:
    """Also a guest that makes no operation any more."""
    name = written(
        """
        def main(vcpu):
            vcpu.store8(0x5000, 1)
            while True:
                pass
        """
    )
    with within(20), machine(name) as vm:
        assert run(vm)[1] == 0x5000
        assert vcpu_of(vm).run(0.01) is Event.TIMED_OUT
        with within(15):
            vm.close()
        assert vm.process.status == -signal.SIGKILL
        vm.close()


def run_shortly(vm: client.Vm) -> None:
    """Wait for an exit again and again, each time a tenth of a millisecond."""
    while True:
        vcpu_of(vm).run(0.0001, vm.policy is WaitPolicy.POLL)


@POLICIES
def test_a_dead_guest_is_seen_in_a_row_of_short_waits(written: Write, policy: WaitPolicy) -> None:
    """Short timers must not keep a wait from checking for the guest's end."""
    name = written("import os\ndef main(vcpu):\n    os.kill(os.getpid(), 9)\n")
    killed = pytest.raises(PeerDied, match="killed by SIGKILL")
    with within(20), machine(name, policy=policy) as vm, killed:
        run_shortly(vm)


@pytest.mark.parametrize("then", ["while True: pass", "import time; time.sleep(1000)"])
def test_a_guest_that_closes_its_descriptors_is_no_peer_any_more(written: Write, then: str) -> None:
    """Its process lives, but it is reported as dead within a second."""
    name = written(f"import os\ndef main(vcpu):\n    os.closerange(3, 100)\n    {then}\n")
    with within(20), machine(name, policy=WaitPolicy.BLOCK) as vm:
        vcpu_of(vm).handle.enter()
        with within(15), pytest.raises(CoalescedError, match="closed descriptors"):
            vcpu_of(vm).run()


@POLICIES
def test_a_guest_that_truncates_a_segment_breaks_nothing_else(
    written: Write, policy: WaitPolicy
) -> None:
    """SegmentError or the guest's end is reported; the VMM gets no SIGBUS."""
    name = written(
        f"""
        import os
        def main(vcpu):
            vcpu.store8({ZONE:#x}, 1)
            for fd in range(3, 40):
                try:
                    os.ftruncate(fd, 0)
                except OSError:
                    pass
            while True:
                vcpu.store8({ZONE:#x}, 1)
        """
    )
    with within(20), machine(name, policy=policy) as vm:
        with pytest.raises((SegmentError, PeerDied)):
            go_on(vm, [])
        with pytest.raises(SegmentError, match="segment 'ring' was truncated"):
            drained(vm)
