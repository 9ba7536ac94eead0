"""A VM of this machine's KVM: what recordings and machine code share.

A single vCPU runs inside `run` alone: the ring is drained, zones move and devices are read only
while it is outside KVM_RUN. Several run on in threads of their own while this thread drains and
handles the exit of one; zones move while all are outside.
"""

from __future__ import annotations

import time

from coalesced.hv import abi
from coalesced.hv.kvm import KvmVm
from coalesced.hv.outcome import Event, Exit, Outcome
from coalesced.hv.ring import Consumer
from coalesced.vmm.accel.base import MachineBus
from coalesced.vmm.accel.shared import SharedSlots
from coalesced.vmm.loop import Loop

_LOOK_EVERY = 0.005  # seconds after which descriptors are looked at while the guest does not exit
_HELD_UP = 50e-6  # how often exits that keep coming are held up for a look at them
_LOST: Exit = (abi.KVM_EXIT_SYSTEM_EVENT, 0, 0, False, 0)


class KvmBase(SharedSlots):
    """A VM of this machine's KVM."""

    name = "kvm"
    pid: int | None = None
    known_exits = frozenset(
        (abi.KVM_EXIT_MMIO, abi.KVM_EXIT_IO, abi.KVM_EXIT_HLT, abi.KVM_EXIT_INTR)
    )
    """The exits that the machine handles; another one ends the guest."""

    def __init__(self, vcpus: int = 1) -> None:
        """Create the VM and 1 to 8 vCPUs. Raises KvmUnusable, HostError, RequestError (vCPUs)."""
        self._vm = KvmVm()
        super().__init__(self._vm)
        try:
            self.vcpu = self._vm.create_vcpu()
            for _ in range(1, vcpus):
                self._vm.create_vcpu()
            self._vcpus = self._vm.all_vcpus()
        except BaseException:
            self._vm.close()
            raise
        self.ring: Consumer | None = self.vcpu.ring
        self.coalesced_mmio = True
        self.coalesced_pio = self._vm.capabilities.coalesced_pio
        self._run = self._vcpus.run
        self.complete = self._vcpus.complete
        self.enter = self._vcpus.enter
        self.pause = self._vcpus.pause
        self.park = self._vcpus.park
        self._had_turn = False  # a due timer was reported since the guest ran
        self._look_at = 0.0
        self._first_operation = 0
        self._left_by = 0  # the exit reason that ended the guest

    def set_irq(self, line: int, level: bool) -> None:
        """Nothing to do: the guest has no interrupt lines."""

    def attach(self, bus: MachineBus) -> None:
        """Nothing to do: every access of the guest comes as an exit or through the ring."""

    def run(self, loop: Loop) -> Outcome:
        if not self._first_operation:
            self._first_operation = time.monotonic_ns()
        timeout = None
        if loop.timers or loop.watching:
            timeout = self._turn(loop)
            if timeout is None:
                return Event.TIMED_OUT
        got = self._run(timeout)
        self._had_turn = False
        if isinstance(got, Event) or got[0] in self.known_exits:
            return got
        self._left_by = got[0]
        return _LOST

    def guest_error(self) -> Exception:
        return self._vcpus.why_left(self._left_by)

    def first_operation(self) -> int:
        return self._first_operation

    def signals(self) -> int:
        return 0

    def close(self) -> None:
        self._vm.close()

    def _turn(self, loop: Loop) -> float | None:
        """Serve descriptors now and then; how long the guest may run. None: a timer is due.

        The guest has its turn before the next one of these.
        """
        now = time.monotonic()
        timeout = loop.timers[0][0] - now if loop.timers else _LOOK_EVERY
        if timeout <= 0 and not self._had_turn:
            self._had_turn = True
            return None
        if loop.watching:
            timeout = min(timeout, _LOOK_EVERY)
            if now >= self._look_at:
                loop.serve()
                self._look_at = now + _HELD_UP
        return max(timeout, 0.0)
