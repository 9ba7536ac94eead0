"""Ranges of addresses as a user writes them."""

from __future__ import annotations

from typing import Final

from coalesced.tools.errors import BadInput
from coalesced.vmm.zone import Zone

FORM: Final = "[pio:]ADDRESS+SIZE"
PORTS: Final = 1 << 16


def zone_of(option: str, text: str) -> Zone:
    """A range as `[pio:]ADDRESS+SIZE`, decimal or 0x and hexadecimal. Raises BadInput."""
    pio = text.startswith("pio:")
    address, _, size = text.removeprefix("pio:").partition("+")
    try:
        zone = Zone(pio, int(address, 0), int(size, 0))
    except ValueError:
        zone = Zone(pio, 0, 0)
    if zone.size <= 0 or zone.address < 0:
        raise BadInput(f"{option} {text}: expected {FORM}")
    end, what = (PORTS, "ports") if pio else (1 << 64, "memory")
    if zone.address + zone.size > end:
        raise BadInput(
            f"{option} {text}: expected a range of {what} that ends at {end:#x} or below"
        )
    return zone
