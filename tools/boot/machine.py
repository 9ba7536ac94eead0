"""A PC that boots an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from coalesced.tools.boot.images import Image
from coalesced.tools.errors import BadInput
from coalesced.tools.runs import boards, firmware
from coalesced.tools.runs.options import NetworkOptions
from coalesced.vmm.board import Board
from coalesced.vmm.devicespec import Spec
from coalesced.vmm.machine import Machine


@dataclass(frozen=True)
class Hardware:
    """The PC: its devices as SPECs, RAM in bytes, and firmware; `bios` empty: none."""

    specs: Sequence[str]
    memory: int
    bios: bytes = b""
    roms: Mapping[str, bytes] = field(default_factory=dict)  # more option ROMs, by name
    network: NetworkOptions | None = None


def build(machine: Machine, hardware: Hardware, image: Image) -> Board:
    """The PC, with the image in its place. Raises BadInput."""
    board = boards.board(machine, list(hardware.specs), hardware.memory, hardware.network, _rom_of)
    interrupts = machine.take_interrupts(board.pic.acknowledge)
    board.pic.on_intr = interrupts.set_pin
    if image.start is None:
        board.isa_bridge.route_at_reset(None)  # firmware routes the interrupts
    board.pm.disable_smm()  # neither Unicorn nor every KVM has it
    board.add_bios(image.start if image.start is not None else hardware.bios)
    for name, contents in hardware.roms.items():
        board.fw_cfg.add_file(f"genroms/{name}", contents)
    if image.floppy:
        board.fw_cfg.add_file("floppyimg/disk", image.floppy)
    if image.kernel is not None:
        for key, data in image.kernel.items.items():
            board.fw_cfg.add(key, data)
        for name, contents in image.kernel.files.items():
            board.fw_cfg.add_file(name, contents)
    _load(machine, image)
    return board


def _load(machine: Machine, image: Image) -> None:
    for address, contents in image.loaded:
        ram = machine.dma.ram_at(address)
        if ram is None or address + len(contents) > ram.start + ram.size:
            there = " and ".join(f"{m.start:#x}..{m.start + m.size - 1:#x}" for m in machine.ram)
            raise BadInput(
                f"{image.name}: {len(contents)} bytes at {address:#x}: expected RAM there, "
                f"which is {there} (--memory)"
            )
        ram.write(address - ram.start, contents)


def _rom_of(spec: Spec) -> bytes:
    """The expansion ROM of a device: romfile=FILE, or the distribution's. Raises BadInput."""
    given = spec.properties.get("romfile")
    if given is not None:
        return firmware.read(Path(given)) if given else b""
    known = firmware.ROMS.get(spec.name)
    path = firmware.find(known) if known is not None else None
    return b"" if path is None else firmware.read(path)
