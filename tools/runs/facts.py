"""Facts about this machine for `coalesced info`."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from pathlib import Path

from coalesced.hv import abi, kvm
from coalesced.hv.errors import KvmUnusable
from coalesced.hv.ring import usable
from coalesced.hv.shm import DIRECTORY
from coalesced.tools.runs.json_members import OPTIONAL


@dataclass(frozen=True)
class Kvm:
    """The capabilities of /dev/kvm, or the reason why it cannot be used."""

    usable: bool
    reason: str | None = field(default=None, metadata=OPTIONAL)
    api_version: int | None = field(default=None, metadata=OPTIONAL)
    coalesced_mmio: int | None = field(default=None, metadata=OPTIONAL)
    coalesced_pio: int | None = field(default=None, metadata=OPTIONAL)

    @classmethod
    def of_this_machine(cls) -> Kvm:
        """Opens /dev/kvm to find out."""
        try:
            found = kvm.capabilities()
        except KvmUnusable as error:
            return cls(False, str(error))
        pio = int(found.coalesced_pio)
        return cls(True, None, abi.KVM_API_VERSION, found.coalesced_mmio, pio)


@dataclass(frozen=True)
class Facts:
    """CPUs that this process may use, versions, sizes in bytes, and the entries that rings hold.

    `shared_memory`: why there is none; then `shared_memory_free` is None.
    """

    cpus: int
    cpu: str
    kernel: str
    python: str
    page_size: int
    ring_entries: dict[str, int]  # by the ring's pages
    shared_memory_free: int | None
    kvm: Kvm
    shared_memory: str | None = field(default=None, metadata=OPTIONAL)

    @classmethod
    def of_this_machine(cls) -> Facts:
        """Gathers the facts."""
        free, missing = _shared_memory()
        return cls(
            len(os.sched_getaffinity(0)),
            _cpu_model(),
            platform.release(),
            platform.python_version(),
            os.sysconf("SC_PAGE_SIZE"),
            {str(pages): usable(pages) for pages in (1, 2, 4, 8, 16)},
            free,
            Kvm.of_this_machine(),
            missing,
        )


def _shared_memory() -> tuple[int | None, str | None]:
    """The free bytes of POSIX shared memory, or why there is none."""
    try:
        shm = os.statvfs(DIRECTORY)
    except OSError as error:
        return None, f"none: {DIRECTORY}: {error.strerror}; --accel process cannot run without it"
    return shm.f_bavail * shm.f_frsize, None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []  # /proc is not mounted
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
