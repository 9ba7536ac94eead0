"""Names of ranges: QEMU's names in the recording, or a map of the guest's addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from coalesced.hv.printable import printable
from coalesced.tools.errors import BadInput
from coalesced.vmm.zone import Zone

PAGE = 0x1000
PORTS = 8  # that are taken for those of one device

# QEMU: `NAME @OFFSET KVM`, where the range begins inside its region, and KVM maps it.
_SHOWN = re.compile(r"(.*?)(?: @([0-9a-f]{16}))?(?: KVM)?")
_LINE = re.compile(r"^\s*([0-9a-f]{4,16})-([0-9a-f]{4,16})\s*(?:\([^)]*\))?\s*:\s*(\S.*?)\s*$")


class Named(NamedTuple):
    """A range of addresses, and where it begins in what has the name."""

    zone: Zone
    name: str
    offset: int


@dataclass(frozen=True)
class Map:
    """Named ranges; the smallest one that contains an address names it."""

    ranges: tuple[Named, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read QEMU's `info mtree -f` or a guest's /proc/iomem. Raises BadInput."""
        try:
            text = path.read_text("utf-8-sig", "replace")
        except OSError as error:
            raise BadInput(f"--map {path}: {error.strerror or error}") from error
        ranges = tuple(_ranges(text))
        if not ranges:
            raise BadInput(f"--map {path}: expected lines as of `info mtree -f` or /proc/iomem")
        return cls(ranges)

    def name(self, zone: Zone) -> str | None:
        """The name of what contains this zone, or its first address, with the offset in it."""
        for wanted in (zone, Zone(zone.pio, zone.address, 1)):
            containing = [each for each in self.ranges if each.zone.holds(wanted)]
            if containing:
                found = min(containing, key=lambda each: (each.zone.size, each.zone.address))
                return f"{found.name}+{found.offset + zone.address - found.zone.address:#x}"
        return None


def device(zone: Zone, name: str | None) -> object:
    """The group of a zone: its name without the offset, or else its page or ports."""
    if name is not None:
        return name.rpartition("+")[0] or name
    return zone.pio, zone.address // (PORTS if zone.pio else PAGE)


def _ranges(text: str) -> Iterator[Named]:
    pio = False
    for line in text.splitlines():
        if "address-space" in line.lower() or line.startswith(("FlatView", " AS ")):
            pio = "I/O" in line or '"I/O"' in line
        found = _LINE.match(line)
        if found:
            start, end = int(found[1], 16), int(found[2], 16)
            shown = _SHOWN.fullmatch(found[3])
            if end >= start and shown is not None:
                offset = int(shown[2] or "0", 16)
                yield Named(Zone(pio, start, end - start + 1), printable(shown[1]), offset)
