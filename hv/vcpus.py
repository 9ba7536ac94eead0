"""A VMM's handles of vCPUs: of one, and of all that a VM has."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from coalesced.hv import core, ring
from coalesced.hv.errors import PeerDied
from coalesced.hv.outcome import Outcome

if TYPE_CHECKING:
    from coalesced.hv.client import Vm

HandleT = TypeVar("HandleT", core.VcpuHandle, core.VcpuHandles)


class Runner(Generic[HandleT]):
    """Enters the guest and waits for its exits."""

    def __init__(self, vm: Vm, handle: HandleT) -> None:
        self.vm = vm
        self.handle: HandleT = handle
        self.complete = handle.complete
        self.enter = handle.enter
        self._run = handle.run

    def run(
        self, timeout: float | None = None, watch: int = 0, due: float | None = None
    ) -> Outcome:
        """KVM_RUN: enter the guest unless it runs already, and wait for its next exit.

        `watch`: `hv.core.WATCH_*` bits. TIMED_OUT is returned after `timeout` seconds or at `due`
        (time.monotonic()); RING_FILLED and READABLE only where the bits say so. The guest runs on
        then, or the next call returns its exit. Raises PeerDied, ProtocolError.
        """
        run = self._run
        try:
            return run(timeout, watch, due)
        except PeerDied as error:
            raise self.vm.died() from error

    def carry_out(self, run: Callable[[HandleT, int], Outcome], watch: int) -> Outcome:
        """`run` of C that holds a handle by itself, with the errors of the one above."""
        try:
            return run(self.handle, watch)
        except PeerDied as error:
            raise self.vm.died() from error


class Vcpu(Runner[core.VcpuHandle]):
    """A vCPU of a VM: enter the guest, wait for its exits, answer them."""

    def __init__(
        self,
        vm: Vm,
        mapping: core.Mapping,
        consumer: ring.Consumer | None,
        exit_fd: int,
        resume_fd: int,
    ) -> None:
        self.ring = consumer
        self.mapping = mapping
        self.exit_fd = exit_fd
        self._resume_fd = resume_fd
        handle = core.VcpuHandle(
            mapping,
            consumer.core if consumer else None,
            exit_fd,
            resume_fd,
            vm.process.pidfd,
            vm.policy,
            vm.vcpus[0].mapping if vm.vcpus else mapping,
        )
        super().__init__(vm, handle)

    def pause(self) -> None:
        """Stop a running vCPU. An exit of its own that came first is what `run` returns next."""
        try:
            self.handle.pause()
        except PeerDied as error:
            raise self.vm.died() from error

    def restart(self, policy: int) -> None:
        """Begin anew beside a vCPU of the guest process that does, too, and so does the ring's end.

        Raises ProtocolError when an index of the ring is no slot.
        """
        self.handle.restart(policy)
        if self.ring is not None:
            self.ring.core.restart()

    def park(self) -> bool:
        """Take note that it has halted; False: there is no other one to run."""
        return False

    def close(self) -> None:
        """Give the pipes back; may be called twice."""
        if self.exit_fd >= 0:
            self.handle.close()
            os.close(self.exit_fd)
            os.close(self._resume_fd)
            self.exit_fd = self._resume_fd = -1


class Vcpus(Runner[core.VcpuHandles]):
    """Several vCPUs of a VM as one: `run` returns the exits of all of them in turn.

    `complete`, `enter` and `park` are about the vCPU whose exit it returned last.
    """

    def __init__(self, vm: Vm, vcpus: Sequence[Vcpu]) -> None:
        super().__init__(vm, core.VcpuHandles(tuple(vcpu.handle for vcpu in vcpus)))
        self.pause = vm.pause
        self.park = self.handle.park
