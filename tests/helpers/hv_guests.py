"""Guests of a guest process, and its vCPU seen from the other process."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

from coalesced.hv import client
from coalesced.hv.outcome import Exit
from coalesced.hv.vcpus import Vcpu
from helpers.hv_processes import RAM, ZONE

Write = Callable[[str], str]


def writer(folder: Path) -> Write:
    """Puts a guest's source into a file of its own; gives the name to load it by."""

    def write(source: str) -> str:
        path = folder / "guest.py"
        path.write_text(textwrap.dedent(source))
        return f"{path}:main"

    return write


def endless(zone: int) -> str:
    """A guest that writes to a zone, and then the number of these writes into RAM, for ever."""
    return f"""
        def main(vcpu):
            n = 0
            while True:
                vcpu.store64({zone:#x}, n)
                vcpu.store64({RAM:#x}, n + 1)
                n += 1
    """


ENDLESS = endless(ZONE)


def vcpu_of(vm: client.Vm) -> Vcpu:
    """The one that there is."""
    return vm.vcpus[0]


def run(vm: client.Vm) -> Exit:
    """The next exit, within a minute."""
    got = vcpu_of(vm).run(60.0)
    assert isinstance(got, tuple), "the guest does not exit"
    return got


def drained(vm: client.Vm) -> list[int]:
    """The data of all published entries, taken out."""
    ring = vcpu_of(vm).ring
    assert ring is not None
    values: list[int] = ring.peek()["data"].tolist()
    ring.commit(len(values))
    return values


def go_on(vm: client.Vm, seen: list[int]) -> None:
    """Run a guest that only stores, whatever happens; the values go to `seen`."""
    while True:
        got = vcpu_of(vm).run()
        seen += drained(vm)
        assert isinstance(got, tuple)
        seen.append(got[4])
