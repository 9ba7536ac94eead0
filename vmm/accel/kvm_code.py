"""Accelerator `kvm` for a guest that is machine code: the real KVM executes it, live."""

from __future__ import annotations

from collections.abc import Mapping

from coalesced.hv import abi
from coalesced.hv.cpu.cpuid import LEAVES
from coalesced.hv.outcome import Outcome
from coalesced.vmm.accel.kvm_base import KvmBase
from coalesced.vmm.loop import Loop


class KvmProcessor(KvmBase):
    """A VM of this machine's KVM that executes machine code from the reset vector on."""

    known_exits = KvmBase.known_exits | {abi.KVM_EXIT_IRQ_WINDOW_OPEN}

    def __init__(self) -> None:
        """Raises KvmUnusable."""
        super().__init__()
        self.interrupt_window = self.vcpu.handle.interrupt_window
        self.interrupt = self.vcpu.interrupt
        self._resetting = False
        self.vcpu.set_cpuid(LEAVES)
        self.vcpu.keep_start()

    def load_guest(self, guest: str, arguments: Mapping[str, object]) -> None:
        """Nothing to do: the code lies in RAM and ROM."""

    def run(self, loop: Loop) -> Outcome:
        self._resetting = False
        return super().run(loop)

    def reset(self) -> None:
        self.vcpu.reset()
        self._resetting = True

    def is_resetting(self) -> bool:
        return self._resetting

    def note_written(self, address: int, size: int) -> None:
        """Nothing to do: the processor sees what is written over its code."""

    def check_alive(self) -> None:
        """Nothing to do: the guest runs in this process."""
