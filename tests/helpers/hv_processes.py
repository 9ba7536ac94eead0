"""Running guest processes for tests: deadlines, ends of processes, what is left in /dev/shm."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coalesced.hv import abi, client, shm
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.process import GuestProcess

ZONE = 0x10000  # a coalesced zone of a page
RAM = 0x100000  # a page of guest RAM


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the main thread when the body takes longer."""

    def overdue(number: int, frame: object) -> None:
        raise TimeoutError(f"not done within {seconds} s")

    before = signal.signal(signal.SIGALRM, overdue)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def gone(pidfd: int, seconds: float) -> bool:
    """True when the process behind a pidfd ends within that time."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def names_by(*pids: int) -> list[str]:
    """Names in /dev/shm that one of these processes made."""
    prefixes = tuple(f"{shm.PREFIX}{pid}-" for pid in pids)
    return [name for name in os.listdir(shm.DIRECTORY) if name.startswith(prefixes)]


@contextmanager
def machine(
    guest: str,
    arguments: dict[str, object] | None = None,
    *,
    policy: WaitPolicy = WaitPolicy.ADAPTIVE,
    ring_pages: int = 1,
    vcpus: int = 1,
) -> Iterator[client.Vm]:
    """A VM with vCPUs, a zone at ZONE, RAM at RAM and a guest loaded; closed at the end."""
    process = GuestProcess()
    vm: client.Vm | None = None
    try:
        vm = client.Vm(process, ring_pages, policy)
        vm.set_user_memory_region(0, RAM, abi.PAGE_SIZE)
        for _ in range(vcpus):
            vm.create_vcpu()
        if ring_pages:
            vm.register_coalesced_mmio(ZONE, abi.PAGE_SIZE)
        vm.load_guest(guest, arguments)
        yield vm
    finally:
        if vm is None:
            process.close()
        else:
            vm.close()


def is_running(pid: int) -> bool:
    """True while a process of that id exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False
