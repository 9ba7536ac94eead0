"""The exits of a world, by reason and place, and in their order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

from coalesced.devices.vga.vga import Vga
from coalesced.hv.abi import KVM_EXIT_HLT, KVM_EXIT_IO, KVM_EXIT_MMIO
from coalesced.hv.outcome import Exit
from coalesced.vmm.board import Board
from coalesced.vmm.machine import Machine

HALT: Final = "hlt"
RING_FULL: Final = "ring_full"
PLAIN: Final = " as plain memory"
KEPT: Final = 1 << 20
"""Exits whose order is kept; all are counted."""

_CONFIG_DATA: Final = range(0xCFC, 0xD00)
Place = Callable[[int], str]


class Seen(NamedTuple):
    """An exit. `value`: of a write, else None; `queued`: writes queued since the exit before."""

    reason: str
    place: str
    value: int | None
    queued: int


class Log:
    """The exits of a world. Without a machine's memory, `name` gives the places in memory."""

    def __init__(self, name: Place) -> None:
        self.name = name
        self.counts: Counter[tuple[str, str]] = Counter()
        self.order: list[Seen] = []
        self.full_rings: Counter[int] = Counter()  # by the entries that they held
        self._queued = 0

    def add(self, reason: str, place: str, value: int | None, queued: int, times: int = 1) -> None:
        """Add an exit, or as many as the elements of a string; `queued`: of the whole run."""
        self.counts[reason, place] += times
        since, self._queued = queued - self._queued, queued
        if reason == RING_FULL:
            self.full_rings[since] += 1
        if len(self.order) < KEPT:
            self.order.append(Seen(reason, place, value, since))


def port_name(port: int, config_address: int) -> str:
    """A port, and the function that an access to the PCI configuration's data reaches."""
    if port not in _CONFIG_DATA:
        return f"port {port:#x}"
    bus, slot, function = (
        config_address >> 16 & 0xFF,
        config_address >> 11 & 31,
        config_address >> 8,
    )
    return f"port {port:#x} of {bus:02x}:{slot:02x}.{function & 7}"


def counts_of(machine: Machine) -> Counter[tuple[str, str]]:
    """The exits that a machine has counted, by reason and place; halts are not among them."""
    found: Counter[tuple[str, str]] = Counter()
    for (reason, port), at in machine.counters.exits_at.items():
        for address, count in at.items():
            place = f"port {address:#x}" if port else _region_name(machine, address)
            found[reason, place] += count
    return found


def _region_name(machine: Machine, address: int) -> str:
    region = machine.memory.region_at(address)
    return f"{address:#x}" if region is None else region.name


def watch(machine: Machine, board: Board) -> Log:
    """The log of a machine that is about to run. A VGA's window is named by its mode, too."""

    cores = [getattr(display, "vga", display) for display in board.displays]
    vgas = [core for core in cores if isinstance(core, Vga)]

    def name(address: int) -> str:
        region = machine.memory.region_at(address)
        plain = any(vga.window is region and vga.memory.is_plain for vga in vgas)
        return _region_name(machine, address) + PLAIN * plain

    log = Log(name)

    def see(exit_: Exit) -> None:
        reason, address, size, is_write, value = exit_
        written = value if is_write else None
        queued = machine.counters.coalesced
        if reason == KVM_EXIT_HLT:
            log.add(HALT, "", None, queued)
        elif reason == KVM_EXIT_MMIO:
            kind = machine.coalescing.kind_of(address, size, False) if is_write else "load"
            log.add(kind, name(address), written, queued)
        elif reason == KVM_EXIT_IO:
            kind = machine.coalescing.kind_of(address, size, True) if is_write else "pio"
            place = port_name(address, board.host.config_address)
            log.add(kind if kind == RING_FULL else "pio", place, written, queued)

    machine.show_exits(see)
    return log
