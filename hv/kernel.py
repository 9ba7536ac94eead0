"""Main of the guest process: the kernel's part of a VM, with its guest."""

from __future__ import annotations

import errno
import gc
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from coalesced.hv import abi, core, descriptors, doorbell, guest, ring, shm, signals, wire
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.errors import (
    CoalescedError,
    HostError,
    PeerDied,
    ProtocolError,
    RequestError,
    SegmentError,
)
from coalesced.hv.printable import printable_stream
from coalesced.hv.process import ASK_WHERE, CUT_OFF
from coalesced.hv.registered import Registered, Reply, unpacked
from coalesced.hv.shm import Segment
from coalesced.hv.vcpu import Vcpu

_TURN = 0.0002  # seconds after which a vCPU that waits for RAM lets another one's thread run
Slot = tuple[int, core.Mapping, bool]  # start, and whether it is ROM


class Kernel:
    """The state of one VM on the kernel's side, and the requests that change it."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.vcpus: list[core.Vcpu] = []
        self._threads: list[int | None] = []  # identifiers, of the threads of `vcpus`
        self.guest: Callable[[Vcpu], object] | None = None
        self.guest_error = ""
        self._ring: Segment | None = None
        self._vm_ring: core.VmRing | None = None
        self._first: core.Mapping | None = None  # run segment and ring of the first vCPU
        self._exit_write = -1
        self._pipes: list[int] = []  # the ends that stay here
        self._created = self._started = self._begun = False
        self._policy = WaitPolicy.ADAPTIVE
        self._registered = Registered(self.vcpus)
        self._memory: dict[int, Slot] = {}
        self._handlers: dict[int, Callable[[bytes, tuple[int, ...]], Reply]] = {
            abi.KVM_GET_API_VERSION: lambda _a, _f: (abi.KVM_API_VERSION, b"", ()),
            abi.KVM_CREATE_VM: self._create_vm,
            abi.KVM_CHECK_EXTENSION: self._check_extension,
            abi.KVM_CREATE_VCPU: self._create_vcpu,
            abi.KVM_SET_USER_MEMORY_REGION: self._set_user_memory_region,
            **self._registered.handlers,
            abi.HV_LOAD_GUEST: self._load_guest,
            abi.HV_GUEST_ERROR: lambda _a, _f: (
                0,
                self.guest_error.encode(errors="backslashreplace"),
                (),
            ),
            abi.HV_STATISTICS: self._statistics,
        }

    # --- requests ---

    def serve(self, flags: int = 0) -> bool:
        """Answer one request; False when flags forbid waiting and there is none."""
        message = wire.receive(self.control, abi.HV_REQUEST, flags)
        if message is None:
            return False
        number, argument, fds = message
        given: tuple[int, ...] = ()
        try:
            result, payload, given = self._answer(number, argument, fds)
            wire.send_reply(self.control, result, payload, given)
        finally:
            for fd in (*fds, *given):
                os.close(fd)
        return True

    def _answer(self, number: int, argument: bytes, fds: tuple[int, ...]) -> Reply:
        """The reply to a request; -errno and a text when it is refused."""
        handler = self._handlers.get(number)
        try:
            if handler is None:
                raise RequestError(errno.ENOTTY, f"unknown request {number:#x}")
            return handler(argument, fds)
        except RequestError as error:
            told = f"{error}\n{error.frames}" if error.frames else str(error)
            return -error.errno, told.encode(errors="backslashreplace"), ()
        except (SegmentError, HostError) as error:
            number = errno.EINVAL if isinstance(error, SegmentError) else errno.ENOMEM
            return -number, str(error).encode(), ()
        except (OSError, MemoryError) as error:
            told = f"the guest process: {error or type(error).__name__}"
            reason = getattr(error, "errno", None) or errno.ENOMEM
            return -reason, told.encode(errors="replace"), ()

    def serve_waiting(self) -> None:
        """Answer the waiting requests; the vCPUs are stopped.

        A handler of the guest that raises does so before or after, never between a request and
        its reply.
        """
        with signals.held():
            while self.serve(socket.MSG_DONTWAIT):
                pass

    def _create_vm(self, argument: bytes, _fds: tuple[int, ...]) -> Reply:
        pages, policy = unpacked(abi.HV_CREATE_VM, argument)
        if self._created:
            raise RequestError(errno.EBUSY, "this process has a VM already")
        if pages > abi.RING_PAGES_MAX or policy not in iter(WaitPolicy):
            raise RequestError(errno.EINVAL, f"no VM with a ring of {pages} pages, policy {policy}")
        self._policy = WaitPolicy(policy)
        self._created = True
        if not pages:
            return 0, b"", ()
        self._ring = shm.create("ring", ring.size_of(pages))
        self._registered.has_ring = True
        return 0, b"", (os.dup(self._ring.fd),)

    def _check_extension(self, argument: bytes, _fds: tuple[int, ...]) -> Reply:
        (capability,) = unpacked(abi.HV_REQUEST, argument)
        if capability == abi.KVM_CAP_IOEVENTFD:
            return 1, b"", ()
        if capability not in abi.COALESCED_CAPABILITIES or self._ring is None:
            return 0, b"", ()
        return abi.RUN_PAGES if capability == abi.KVM_CAP_COALESCED_MMIO else 1, b"", ()

    def _create_vcpu(self, argument: bytes, _fds: tuple[int, ...]) -> Reply:
        (number,) = unpacked(abi.HV_REQUEST, argument)
        if number < len(self.vcpus):
            raise RequestError(errno.EEXIST, f"vCPU {number} already exists")
        if not self._created or number != len(self.vcpus) or number >= abi.VCPUS_MAX:
            raise RequestError(
                errno.EINVAL,
                f"no vCPU {number}: expected the next one of {abi.VCPUS_MAX}, from 0 on, in a VM",
            )
        if self._started:
            raise RequestError(errno.EBUSY, "the guest has begun: expected all vCPUs before it")
        run = shm.create("run page", abi.RUN_PAGES * abi.PAGE_SIZE)
        mapping, exit_read = self._prepare_vcpu(run)
        resume_read, resume_write = doorbell.pipe()
        self._pipes += [self._exit_write, resume_read]
        vcpu = core.Vcpu(
            mapping,
            self._vm_ring,
            self._exit_write,
            resume_read,
            self._policy,
            self.serve_waiting,
            self._first or mapping,
        )
        for slot in self._memory.values():
            vcpu.set_memory(*slot)
        self.vcpus.append(vcpu)
        for each in self.vcpus:
            each.several = number > 0
        self._registered.push()
        # The ends that go over are not kept: a pipe must close when the VMM does.
        return 0, b"", (run.fd, *exit_read, resume_write)

    def _prepare_vcpu(self, run: Segment) -> tuple[core.Mapping, tuple[int, ...]]:
        """The mapping of a vCPU's run segment, and the VMM's end of the exit pipe if it is new.

        The VMM sleeps in one place: one pipe, and the first vCPU's need-wakeup word, wake it.
        """
        if self._first is not None:
            if self._vm_ring is not None:
                self._vm_ring.share()
            self._registered.own.share()
            return shm.mapped(run), ()
        self._first = shm.mapped(run, *([self._ring] if self._ring else []))
        if self._ring is not None:
            self._vm_ring = core.VmRing(self._first, run.size, self._ring.size)
        exit_read, self._exit_write = doorbell.pipe()
        return self._first, (exit_read,)

    def _set_user_memory_region(self, argument: bytes, fds: tuple[int, ...]) -> Reply:
        slot, flags, start, size, _ = unpacked(abi.KVM_USERSPACE_MEMORY_REGION, argument)
        if (
            flags & ~abi.KVM_MEM_READONLY
            or start % abi.PAGE_SIZE
            or size % abi.PAGE_SIZE
            or start + size > 1 << 64
        ):
            raise RequestError(
                errno.EINVAL, f"memory slot {slot}: {start:#x}+{size:#x} with flags {flags:#x}"
            )
        others = {k: v for k, v in self._memory.items() if k != slot}
        if size == 0:
            self._memory = others
        else:
            if len(fds) != 1:
                raise RequestError(errno.EINVAL, f"memory slot {slot}: expected one descriptor")
            if len(others) == abi.MEMORY_SLOTS:
                raise RequestError(errno.EINVAL, f"no more than {abi.MEMORY_SLOTS} memory slots")
            for other, (base, mapping, _) in others.items():
                if start < base + len(mapping) and base < start + size:
                    raise RequestError(errno.EEXIST, f"memory slot {slot} overlaps slot {other}")
            segment = shm.received(f"memory slot {slot}", os.dup(fds[0]), size)
            try:
                mapping = shm.mapped(segment)
            finally:
                segment.close()
            self._memory = {**others, slot: (start, mapping, flags != 0)}
        for vcpu in self.vcpus:
            vcpu.clear_memory()
            for held in self._memory.values():
                vcpu.set_memory(*held)
        return 0, b"", ()

    def _load_guest(self, argument: bytes, _fds: tuple[int, ...]) -> Reply:
        if self._begun:
            raise RequestError(errno.EBUSY, "a guest has begun in this process: it takes no other")
        function, arguments = guest.requested(argument)
        self.guest = lambda vcpu: function(vcpu, **arguments)
        return 0, b"", ()

    def _statistics(self, _argument: bytes, _fds: tuple[int, ...]) -> Reply:
        if not self.vcpus:
            raise RequestError(errno.EINVAL, "no vCPU")
        counters = [(vcpu.coalesced, vcpu.exits, vcpu.signals) for vcpu in self.vcpus]
        return 0, abi.HV_STATISTICS_REPLY.pack(*map(sum, zip(*counters, strict=True))), ()

    # --- the guest ---

    def run(self) -> NoReturn:
        """Serve until there is a guest and a vCPU to run it, then run it; ends with the VMM.

        The first vCPU, which serves requests, and signal handlers run in this thread, each other
        vCPU in a thread of its own.
        """
        with signals.held():  # from when a module of the guest may have installed handlers
            while not self.vcpus or self.guest is None:
                self.serve()
            self._started = True
            self._threads.append(threading.get_ident())
            if len(self.vcpus) > 1:
                sys.setswitchinterval(_TURN)
            for index in range(1, len(self.vcpus)):
                # No signal reaches it, as none reaches this one here.
                thread = threading.Thread(target=self._run_other, args=(index,), daemon=True)
                thread.start()
                self._threads.append(thread.ident)
            self.vcpus[0].wait_run()
        self._run_vcpu(0)

    def _run_other(self, index: int) -> None:
        """The thread of a vCPU that is not the first; ends with the process."""
        try:
            self.vcpus[index].wait_run()
            self._run_vcpu(index)
        except CoalescedError as error:
            guest.leave(self.status_of(error))

    def _run_vcpu(self, index: int) -> NoReturn:
        """Call the guest with an entered vCPU, and halt it for good. Raises when the VMM ended."""
        assert self.guest is not None
        self._begun = True
        vcpu = self.vcpus[index]
        error = self._call_guest(self.guest, Vcpu(vcpu, index))
        if error is not None:
            if not self.guest_error:  # another vCPU's may not be reported yet
                self.guest_error = f"{guest.describe(error)}\n{guest.frames(error)}"
            vcpu.system_event(abi.KVM_SYSTEM_EVENT_CRASH)
        while True:
            vcpu.halt()

    def tell_where(self, _number: int, frame: FrameType | None) -> None:
        """Send the VMM, which is about to end this process, file and line of each vCPU's guest."""
        frames = {**sys._current_frames(), threading.get_ident(): frame}
        places = [self._place(frames.get(thread)) for thread in self._threads if thread]
        told = places[0] if places else ""
        if len(places) > 1:
            told = ", ".join(f"{at or 'its end'} (vCPU {i})" for i, at in enumerate(places))
        with suppress(OSError, ValueError, PeerDied):
            wire.send_reply(self.control, abi.HV_WHERE, told.encode(errors="backslashreplace"))

    @staticmethod
    def _place(frame: FrameType | None) -> str:
        """File and line of the guest in a thread's stack; empty before and behind the guest."""
        stack = traceback.extract_stack(frame)
        inside = [index for index, known in enumerate(stack) if known.filename == __file__]
        return guest.place(stack[max(inside, default=-1) + 1 :])

    def restart(self, policy: WaitPolicy) -> None:
        """Begin anew with a VM of one vCPU: `run` waits for another guest.

        Zones and memory stay. The run segment is zeroed, the ring's indices are where it begins.
        """
        self.guest, self.guest_error, self._started, self._begun = None, "", False, False
        self._threads.clear()
        if self._vm_ring is not None:
            self._vm_ring.restart()
        for vcpu in self.vcpus:
            vcpu.restart(policy)

    def give_up(self) -> None:
        """Release vCPUs and memory, which would keep this object and each other. The pipes' ends
        stay open: they close with the process.

        Of several vCPUs nothing is released: the threads of the others go on until the process
        ends. To them the number of a closed descriptor, an own ring's, would be that of another
        file that the guest has opened.
        """
        if len(self.vcpus) > 1:
            return
        self.guest = self._first = self._vm_ring = None
        self.vcpus.clear()
        self._memory = {}
        with suppress(OSError):  # the guest may have closed them
            self._registered.own.close()
            if self._ring is not None:
                self._ring.close()

    @staticmethod
    def _call_guest(function: Callable[[Vcpu], object], vcpu: Vcpu) -> BaseException | None:
        """The guest's exception, if any; in the first vCPU's thread handlers are called no more.

        A fork of this process that returns from it ends here.
        """
        process = os.getpid()
        error: BaseException | None = None
        try:
            function(vcpu)
            if vcpu.index == 0:
                signals.hold_handlers()
        except BaseException as raised:
            try:  # noqa: SIM105 - `suppress` is a function, before which a handler could raise
                signals.block_all()
            except BaseException:  # of a handler that raises repeatedly
                pass
            if vcpu.index == 0:
                signals.hold_handlers()
            error = raised
        if os.getpid() != process:
            guest.end_fork(error)
        if isinstance(error, (PeerDied, ProtocolError)):
            raise error
        return error

    def status_of(self, error: CoalescedError) -> int:
        """The exit status by what ended a vCPU's thread, with its line on stderr."""
        if isinstance(error, PeerDied):
            return 0 if descriptors.are_open(self.control.fileno(), *self._pipes) else CUT_OFF
        sys.stderr.write(f"coalesced: guest process: {error}\n")
        return 1


def main() -> None:
    """Serve the VMM at the other end of descriptor 0 until it ends.

    Exit status 0 when the VMM ended, 1 when the two sides do not agree (one line on stderr).
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    control = socket.socket(fileno=os.dup(0))
    core.die_with_parent()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    shm.remove_orphans()
    sys.stdout, sys.stderr = printable_stream(sys.stdout), printable_stream(sys.stderr)
    gc.freeze()
    gc.enable()
    guest.leave(serve(control))


def serve(control: socket.socket) -> int:
    """Serve the VMM at the other end of a socket until it ends; the exit status, as of `main`."""
    kernel = Kernel(control)
    try:
        return run(kernel)
    finally:
        kernel.give_up()


def run(kernel: Kernel) -> int:
    """Let a kernel serve and run its guest until the VMM ends; the exit status, as of `main`."""
    try:
        signal.signal(ASK_WHERE, kernel.tell_where)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [ASK_WHERE])
        kernel.run()
    except CoalescedError as error:
        return kernel.status_of(error)
    finally:
        signal.signal(ASK_WHERE, signal.SIG_IGN)  # its handler keeps the kernel
