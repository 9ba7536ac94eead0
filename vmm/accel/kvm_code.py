"""Accelerator `kvm` for a guest that is machine code: the real KVM executes it, live."""

from __future__ import annotations

from collections.abc import Mapping

from coalesced.devices.bus.device import Ram
from coalesced.hv import abi
from coalesced.hv.cpu.cpuid import LEAVES
from coalesced.hv.cpu.crash import instructions
from coalesced.hv.errors import GuestError
from coalesced.hv.outcome import Outcome
from coalesced.vmm.accel.kvm_base import KvmBase
from coalesced.vmm.accel.shared import SharedMemory
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
        self._memories: list[SharedMemory] = []
        self.vcpu.set_cpuid(LEAVES)
        self.vcpu.keep_start()

    def add_memory(self, start: int, size: int) -> SharedMemory:
        return self._shown(super().add_memory(start, size))

    def add_rom(self, start: int, contents: bytes) -> SharedMemory:
        return self._shown(super().add_rom(start, contents))

    def _shown(self, memory: SharedMemory) -> SharedMemory:
        self._memories.append(memory)
        return memory

    def show_memory(self, memory: Ram, shown: bool) -> None:
        super().show_memory(memory, shown)
        assert isinstance(memory, SharedMemory)
        self._memories.remove(memory)
        # Those that are shown come first, as the guest sees them.
        self._memories.insert(0 if shown else len(self._memories), memory)

    def guest_error(self) -> Exception:
        """With the instructions around, unless paging hides where they are."""
        error = super().guest_error()
        code = self.vcpu.next_code()
        if code is None or not isinstance(error, GuestError):
            return error
        reason, _, registers = str(error).partition("; ")
        return GuestError(f"{reason}; {instructions(*code, self._read)}; {registers}")

    def _read(self, address: int, size: int) -> bytes | None:
        for memory in self._memories:
            offset = address - memory.start
            if 0 <= offset <= memory.size - size:
                return memory.read(offset, size)
        return None

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
        """Nothing to do: the processor sees writes to its code."""

    def check_alive(self) -> None:
        """Nothing to do: the guest runs in this process."""
