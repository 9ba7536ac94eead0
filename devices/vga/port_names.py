"""Names of the VGA's ports: the registers that they reach, as the IBM VGA datasheet calls them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from coalesced.devices.vga.ports import PORT_BASE

if TYPE_CHECKING:
    from coalesced.devices.vga.registers import Registers

_FIXED: Final = {
    0x3C0: "AR index/data",
    0x3C1: "AR data",
    0x3C2: "MISC/ST00",
    0x3C4: "SR index",
    0x3C6: "DAC mask",
    0x3C7: "DAC read index",
    0x3C8: "DAC write index",
    0x3C9: "DAC data",
    0x3CA: "FCR",
    0x3CC: "MISC",
    0x3CE: "GR index",
    0x3D4: "CR index",
    0x3DA: "ST01/FCR",
}
_INDEXED: Final[dict[int, Callable[[Registers], str]]] = {
    0x3C5: lambda r: f"SR{r.sr_index:X}",
    0x3CF: lambda r: f"GR{r.gr_index:X}",
    0x3D5: lambda r: f"CR{r.cr_index:X}",
}


def port_name(registers: Registers, offset: int) -> str | None:
    """The register at a port, by its offset from 0x3b0: "SR2" where SR's index is 2."""
    port = PORT_BASE + offset
    if port in (0x3B4, 0x3B5, 0x3BA):  # where a monochrome adapter has them
        port += 0x20
    if port in _INDEXED:
        return _INDEXED[port](registers)
    return _FIXED.get(port)
