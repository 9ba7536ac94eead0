"""A guest process that lies or abuses shared resources is reported, and Ctrl-C still works."""

from __future__ import annotations

import os
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import coalesced.hv
from coalesced.hv import abi, client
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.errors import PeerDied, ProtocolError
from coalesced.hv.outcome import Event
from coalesced.hv.process import GuestProcess
from coalesced.vmm.accel.process import ProcessAccelerator
from coalesced.vmm.machine import Machine
from helpers.descriptors import descriptors
from helpers.hv_guests import Write, writer
from helpers.hv_processes import machine, within

SOURCES = Path(coalesced.hv.__file__).parents[2]
POLICIES = pytest.mark.parametrize("policy", list(WaitPolicy), ids=lambda p: p.name.lower())

# How a guest finds its end of a pipe, and writes to it as much as that takes.
FLOOD = """
import fcntl, os, stat

def ends(access):
    found = []
    for fd in range(3, 100):
        try:
            pipe = stat.S_ISFIFO(os.fstat(fd).st_mode)
            if pipe and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == access:
                found.append(fd)
        except OSError:
            pass
    return found

def main(vcpu):
    (fd,) = ends(os.O_WRONLY)
    if os.fork() == 0:
        os.set_blocking(fd, True)
        try:
            while True:
                os.write(fd, bytes(4096))
        finally:
            os._exit(0)
    {then}
"""


@pytest.fixture
def written(tmp_path: Path) -> Write:
    """Put a guest's source into a file of its own; the name to load it by."""
    return writer(tmp_path)


def lying(source: str) -> GuestProcess:
    """A guest process that runs this before it serves."""
    imports = "import os, signal, socket\nfrom coalesced.hv import abi, doorbell, kernel, shm\n"
    return GuestProcess(f"{imports}{textwrap.dedent(source)}\nkernel.main()\n")


@contextmanager
def vm_of(
    started: GuestProcess, policy: WaitPolicy = WaitPolicy.ADAPTIVE, ring_pages: int = 1
) -> Iterator[client.Vm]:
    """A VM without a vCPU."""
    with within(30):
        try:
            vm = client.Vm(started, ring_pages, policy)
        except BaseException:
            started.close()
            raise
        try:
            yield vm
        finally:
            vm.close()


# --- a pipe full of junk ---


@POLICIES
def test_ctrl_c_is_heard_through_endless_bytes_on_the_exit_pipe(
    written: Write, policy: WaitPolicy
) -> None:
    """Bytes without an exit wake the VMM again and again; it looks at signals each time."""
    name = written(FLOOD.format(then="os.kill(os.getpid(), 19)"))
    with within(20), machine(name, policy=policy) as vm:
        started = time.monotonic()
        with pytest.raises(TimeoutError, match=r"within 0\.3"), within(0.3):
            vm.vcpus[0].run()
        assert time.monotonic() - started < 15


@POLICIES
def test_timers_and_descriptors_are_served_through_endless_bytes(
    written: Write, policy: WaitPolicy
) -> None:
    """A wait ends when it is due, and when what it watches is readable."""
    name = written(FLOOD.format(then="os.kill(os.getpid(), 19)"))
    watched, write = os.pipe()
    with within(20), machine(name, policy=policy) as vm:
        assert vm.vcpus[0].run(0.2) is Event.TIMED_OUT
        vm.vcpus[0].handle.watch(watched)
        os.write(write, b"!")
        assert vm.vcpus[0].run(20.0, 2) is Event.READABLE
    os.close(watched)
    os.close(write)


@POLICIES
def test_the_end_of_the_guest_is_seen_through_endless_bytes(
    written: Write, policy: WaitPolicy
) -> None:
    """Though a process that it started goes on writing."""
    name = written(FLOOD.format(then="os.kill(os.getpid(), 9)"))
    with (
        within(20),
        machine(name, policy=policy) as vm,
        within(15),
        pytest.raises(PeerDied, match="killed by SIGKILL"),
    ):
        vm.vcpus[0].run()


def test_exits_come_through_endless_bytes(written: Write) -> None:
    """The bytes carry no meaning; the word in the run page does.

    The guest exits once the pipe is full, and waits for room in it.
    """
    full = "import select\n    while select.select([], [fd], [], 0)[1]: pass\n    "
    name = written(FLOOD.format(then=f"{full}vcpu.store8(0x5000, 7)"))
    with within(20), machine(name, policy=WaitPolicy.BLOCK) as vm:
        assert vm.vcpus[0].run(20.0) == (abi.KVM_EXIT_MMIO, 0x5000, 1, True, 7)
        assert vm.vcpus[0].run(20.0) == (abi.KVM_EXIT_HLT, 0, 0, False, 0)


# --- descriptors that are no pipes, or others ---

OTHER_PIPES = {
    "zero": ("(os.open('/dev/zero', os.O_RDWR),) * 2", "expected a pipe, got a character device"),
    "file": ("(os.open('/etc/passwd', os.O_RDONLY),) * 2", "expected a pipe, got a regular file"),
    "folder": ("(os.open('/', os.O_RDONLY),) * 2", "expected a pipe, got a directory"),
    "socket": ("[s.detach() for s in socket.socketpair()]", "expected a pipe, got a socket"),
    "memory": ("(os.memfd_create('x'),) * 2", "expected a pipe, got a regular file"),
    "event": ("(os.eventfd(0),) * 2", "expected a pipe, got something else"),
    "swapped": ("os.pipe()[::-1]", "exit pipe: expected a pipe open for reading"),
    "both": ("(os.open('/proc/self/fd/%d' % os.pipe()[0], os.O_RDWR),) * 2", "open for reading"),
}


@pytest.mark.parametrize("what", OTHER_PIPES)
def test_what_is_no_pipe_is_refused(what: str) -> None:
    """The error gives its name and kind, and its descriptor is closed."""
    made, said = OTHER_PIPES[what]
    process = lying(
        f"from unittest.mock import Mock\ndoorbell.pipe = lambda: {made}\n"
        "kernel.core.Vcpu = lambda *a: Mock()\n"
    )
    with vm_of(process) as vm:
        before = descriptors()
        with pytest.raises(ProtocolError, match=said):
            vm.create_vcpu()
        assert descriptors() - before == set()


def test_a_full_pipe_that_blocks_stops_nobody() -> None:
    """Wake-ups for a guest that takes none are left out, and a wait hears of signals.

    The guest process makes its pipe block again as soon as the VMM has it.
    """
    process = lying(
        """
        made = []
        def pipe():
            read, write = os.pipe()
            made.extend((os.dup(read), os.dup(write)))
            return read, write
        def halt():
            for fd in made:
                os.set_blocking(fd, True)
            os.set_blocking(made[3], False)
            try:
                while True:
                    os.write(made[3], bytes(4096))
            except BlockingIOError:
                os.set_blocking(made[3], True)
            signal.pause()
        doorbell.pipe = pipe
        class Vcpu:
            def __init__(self, *a): pass
            set_rings = set_zones = set_events = set_memory = lambda *a: None
            def wait_run(self): halt()
        kernel.core.Vcpu = Vcpu
        """
    )
    with vm_of(process, WaitPolicy.BLOCK) as vm:
        vcpu = vm.create_vcpu()
        vm.vcpus.clear()  # it serves no request after this one
        vm.load_guest("os:getpid")
        assert vcpu.run(0.2) is Event.TIMED_OUT
        for level in (True, False) * 40000:
            vcpu.handle.set_irq(1, level)
        with pytest.raises(TimeoutError, match=r"within 0\.1"), within(0.1):
            vcpu.run()


SEGMENTS = {
    "zero": ("os.open('/dev/zero', os.O_RDWR)", "expected shared memory, got a character device"),
    "pipe": ("os.pipe()[0]", "expected shared memory, got a pipe"),
    "read only": (
        "os.open('/proc/self/fd/%d' % real, os.O_RDONLY)",
        "expected a descriptor open for reading and writing",
    ),
    "short": (
        "(os.ftruncate(real, 4096), real)[1]",
        "expected 8192 bytes, got 4096",
    ),
    "sealed": ("sealed(8192)", "expected memory without a seal against writing"),
    "on a disk": ("on_disk(8192)", "expected shared memory, got a regular file"),
}
MAKERS = """
import fcntl
def sealed(size):
    fd = os.memfd_create("x", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    return fd
def on_disk(size):
    fd = os.open(FOLDER, os.O_RDWR | os.O_TMPFILE)
    os.ftruncate(fd, size)
    return fd
"""


@pytest.mark.parametrize("what", SEGMENTS)
def test_what_is_no_segment_is_refused(what: str, tmp_path: Path) -> None:
    """Kind, access mode, size and seals are checked, and the descriptor is closed."""
    made, said = SEGMENTS[what]
    process = lying(
        f"FOLDER = {str(tmp_path)!r}\n{MAKERS}\n"
        "from coalesced.hv import wire\n"
        "reply = wire.send_reply\n"
        "def send(peer, result, payload=b'', fds=()):\n"
        "    if len(fds) == 3:\n"
        f"        real = fds[0]; fds = ({made}, *fds[1:])\n"
        "    reply(peer, result, payload, fds)\n"
        "wire.send_reply = send\n"
    )
    with vm_of(process) as vm:
        before = descriptors()
        with pytest.raises(ProtocolError, match=f"segment run page: {said}"):
            vm.create_vcpu()
        assert descriptors() - before == set()


# --- answers that cannot be true ---


@pytest.mark.parametrize("answer", [1, 3, 4, 2**31 - 1, 2**62])
@pytest.mark.parametrize("capability", ["KVM_CAP_COALESCED_MMIO", "KVM_CAP_COALESCED_PIO"])
def test_a_false_capability_is_a_protocol_error(capability: str, answer: int) -> None:
    """The ring has one offset, and support for ports one value."""
    if capability == "KVM_CAP_COALESCED_PIO" and answer == 1:
        answer = 2
    process = lying(
        f"""
        honest = kernel.Kernel._check_extension
        def lie(self, argument, fds):
            asked = abi.HV_REQUEST.unpack(argument)[0] == abi.{capability}
            return ({answer}, b"", ()) if asked else honest(self, argument, fds)
        kernel.Kernel._check_extension = lie
        """
    )
    with within(30), pytest.raises(ProtocolError, match=f"is {answer}, expected 0 or"):
        ProcessAccelerator(process)


def test_a_ring_that_nobody_asked_for_is_a_protocol_error() -> None:
    """A kernel without coalesced I/O has no offset to report."""
    process = lying("kernel.Kernel._check_extension = lambda *a: (2, b'', ())")
    with within(30), pytest.raises(ProtocolError, match="is 2, expected 0"):
        ProcessAccelerator(process, 0)


def test_a_guest_process_may_deny_the_capability(written: Write) -> None:
    """Without it there is no ring, and every write exits."""
    process = lying("kernel.Kernel._check_extension = lambda *a: (0, b'', ())")
    name = written("def main(vcpu):\n    vcpu.store8(0x5000, 1)\n")
    with within(30), Machine(ProcessAccelerator(process)) as made:
        assert made.accel.ring is None
        made.run(name)
        assert made.counters.exits == 2


def test_a_first_operation_in_the_future_is_a_protocol_error(written: Write) -> None:
    """Otherwise a run would have a negative duration."""
    name = written(
        """
        import mmap, os
        from coalesced.hv import core
        def main(vcpu):
            for fd in range(3, 100):
                try:
                    if os.fstat(fd).st_size == 8192:
                        page = mmap.mmap(fd, 8192)
                        page[core.FIRST_OPERATION:core.FIRST_OPERATION + 8] = b"\\xff" * 8
                except OSError:
                    pass
            with open("/proc/self/maps") as maps:
                at = next(int(l.split("-")[0], 16) for l in maps if "coalesced-" in l)
            vcpu.load8(0x5000)
            with open("/proc/self/mem", "r+b", buffering=0) as memory:
                memory.seek(at + core.FIRST_OPERATION)
                memory.write(b"\\xff" * 8)
        """
    )
    said = pytest.raises(ProtocolError, match="first operation at 18446744073709551615")
    with within(30), Machine(ProcessAccelerator(GuestProcess())) as made, said:
        made.run(name)


def test_nobody_waits_for_a_process_that_left_its_socket_to_another() -> None:
    """PeerDied is raised although the socket is still open."""
    process = lying(
        """
        def die(*_):
            if os.fork():
                os.kill(os.getpid(), signal.SIGKILL)
            os.closerange(1, 3)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
            signal.alarm(3)
            signal.pause()
        kernel.Kernel._create_vcpu = die
        """
    )
    with vm_of(process) as vm, within(15), pytest.raises(PeerDied, match="killed by SIGKILL"):
        vm.create_vcpu()
