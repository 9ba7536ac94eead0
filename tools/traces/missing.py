"""The accesses of a recording to devices that a machine does not have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from coalesced.devices.bus.pci import BASE_ADDRESS_0, PciFunction
from coalesced.devices.bus.region import Region
from coalesced.devices.i440fx import CONFIG_ADDRESS, CONFIG_DATA, CONFIG_ENABLE
from coalesced.hv.abi import OP_IN, OP_OUT
from coalesced.tools.traces.trace import Trace
from coalesced.vmm.board import Board
from coalesced.vmm.machine import Machine

Mask = NDArray[np.bool_]

NO_FUNCTION: Final = 0xFFFF  # the vendor ID of a slot without a function

# QEMU's regions that are parts of a larger one here.
_PART_OF: Final[Mapping[str, str]] = MappingProxyType(
    {
        "bochs dispi interface": "vga.mmio",
        "edid": "vga.mmio",
        "qemu extended regs": "vga.mmio",
        "vga ioports remapped": "vga.mmio",
        "cirrus-low-memory": "cirrus-lowmem-container",
        "cirrus-linear-io": "cirrus-pci-bar0",
        "cirrus-linear-bitblt-mmio": "cirrus-pci-bar0",
        "piix3-reset-control": "pci-conf-idx",
    }
)
_UNNAMED: Final = ("", "unnamed")


def is_region(recorded: str, region: Region) -> bool:
    """Whether a region of this machine is the one that the recording has under that name."""
    return recorded in _UNNAMED or region.name == _PART_OF.get(recorded, recorded)


def regions(machine: Machine, recorded: Trace) -> dict[str, Mask]:
    """By the names of regions that this machine lacks: the accesses to them.

    A region lacks, too, when another region answers at its address.
    """
    ops = recorded.ops
    lacking = np.zeros(len(ops), dtype=bool)
    is_port = (ops["kind"] == OP_IN) | (ops["kind"] == OP_OUT)
    for space, mask in ((machine.ports, is_port), (machine.memory, ~is_port)):
        places = np.stack((ops["address"][mask], recorded.region[mask].astype(np.uint64)))
        pairs, which = np.unique(places, axis=1, return_inverse=True)
        missing = []
        for address, name in zip(*pairs.tolist(), strict=True):
            region = space.region_at(address)
            missing.append(region is None or not is_region(recorded.names[name], region))
        lacking[mask] = np.array(missing, dtype=bool)[which.reshape(-1)]
    numbers = np.unique(recorded.region[lacking]).tolist()
    return {recorded.names[n]: lacking & (recorded.region == n) for n in numbers}


@dataclass(frozen=True)
class Config:
    """The accesses to PCI's configuration space, with function and register."""

    accesses: Mask
    function: NDArray[np.uint64]  # bus << 8 | slot << 3 | function
    register: NDArray[np.uint64]

    @classmethod
    def of(cls, recorded: Trace) -> Config:
        """The last write of the address register selects function and register."""
        ops = recorded.ops
        address = ops["address"]
        selects = (ops["kind"] == OP_OUT) & (address == CONFIG_ADDRESS) & (ops["size"] == 4)
        last = np.maximum.accumulate(np.where(selects, np.arange(len(ops)), -1))
        selected = np.where(last >= 0, ops["value"][np.maximum(last, 0)], 0).astype(np.uint64)
        is_port = (ops["kind"] == OP_IN) | (ops["kind"] == OP_OUT)
        data = is_port & (address >= CONFIG_DATA) & (address < CONFIG_DATA + 4)
        enabled = (selected & np.uint64(CONFIG_ENABLE)) != 0
        register = selected & np.uint64(0xFC) | address & np.uint64(3)
        return cls(data & enabled, selected >> np.uint64(8) & np.uint64(0xFFFF), register)

    def functions(self) -> list[int]:
        """The functions whose configuration space is accessed."""
        found: list[int] = np.unique(self.function[self.accesses]).tolist()
        return found

    def identity(self, recorded: Trace, function: int) -> tuple[int | None, int | None]:
        """Vendor and device ID as the recorded guest read them; None where it did not."""
        reads = self.accesses & recorded.reads & (self.function == function)
        found: list[int | None] = [None, None]
        for number, register in enumerate((0, 2)):
            at = np.flatnonzero(reads & (self.register == register) & (recorded.ops["size"] >= 2))
            if len(at):
                found[number] = int(recorded.ops["value"][at[0]]) & 0xFFFF
        both = np.flatnonzero(reads & (self.register == 0) & (recorded.ops["size"] == 4))
        if len(both) and found[1] is None:
            found[1] = int(recorded.ops["value"][both[0]]) >> 16
        return found[0], found[1]

    def places_bar(self, slot: int, function: int, number: int) -> bool:
        """Whether the guest itself writes this BAR."""
        wanted = self.accesses & (self.function == slot << 3 | function)
        return bool(
            (wanted & (self.register & np.uint64(0xFC) == BASE_ADDRESS_0 + 4 * number)).any()
        )


def functions(board: Board, recorded: Trace) -> dict[str, Mask]:
    """By PCI function that this machine lacks, or has another one for: the accesses to it."""
    config = Config.of(recorded)
    return {
        _name(function, *config.identity(recorded, function)): config.accesses
        & (config.function == function)
        for function in config.functions()
        if _differs(board, function, *config.identity(recorded, function))
    }


def _differs(board: Board, function: int, vendor: int | None, device: int | None) -> bool:
    is_on_bus_0 = function >> 8 == 0
    here = board.bus.functions().get((function >> 3, function & 7)) if is_on_bus_0 else None
    if here is None:
        return vendor != NO_FUNCTION
    return any(wanted is not None and wanted != is_ for wanted, is_ in _ids(here, vendor, device))


def _ids(
    here: PciFunction, vendor: int | None, device: int | None
) -> Iterator[tuple[int | None, int]]:
    yield vendor, here.config_read(0, 2)
    yield device, here.config_read(2, 2)


def _name(function: int, vendor: int | None, device: int | None) -> str:
    where = f"{function >> 8:02x}:{function >> 3 & 31:02x}.{function & 7}"
    known = "" if vendor is None or device is None else f" {vendor:04x}:{device:04x}"
    return f"PCI function {where}{known}"
