"""The guest that executes machine code from the reset vector on, by Unicorn (extra `cpu`)."""

from __future__ import annotations

import ctypes.util
import importlib.util
from pathlib import Path
from typing import Final

from coalesced.hv import core
from coalesced.hv.cpu.cpuid import TABLE
from coalesced.hv.cpu.crash import describe, instructions
from coalesced.hv.errors import GuestError, HostError
from coalesced.hv.vcpu import Vcpu

GUEST: Final = f"{__name__}:run"


def library() -> str:
    """The path of libunicorn: the one of the Python package, or the system's. Raises HostError."""
    # The package itself is not imported: its constants cost more time than a BIOS.
    spec = importlib.util.find_spec("unicorn")
    if spec is not None and spec.origin is not None:
        found = sorted((Path(spec.origin).parent / "lib").glob("libunicorn.so.*"))
        if found:
            return str(found[-1])
    system = ctypes.util.find_library("unicorn")
    if system is None:
        raise HostError(
            "machine code needs the processor of Unicorn: pip install 'coalesced-mmio[cpu]'"
        )
    return system


def run(vcpu: Vcpu) -> None:
    """Execute machine code until the VMM ends it. Raises GuestError when it cannot go on."""
    assert isinstance(vcpu.bus, core.Vcpu)
    cpu = core.Cpu(vcpu.bus, library(), TABLE)
    reason = cpu.run()
    address, wide = cpu.next_code()
    raise GuestError(
        f"the guest: {reason}; {instructions(address, wide, cpu.read)}; {describe(cpu.registers())}"
    )
