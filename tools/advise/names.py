"""Names of ranges: QEMU's names in the recording, or a map of the guest's addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from coalesced.hv.printable import printable
from coalesced.tools.errors import BadInput
from coalesced.vmm.zone import Zone

PAGE = 0x1000
PORTS = 8  # that are taken for those of one device

_LINE = re.compile(r"^\s*([0-9a-f]{4,16})-([0-9a-f]{4,16})\s*(?:\([^)]*\))?\s*:\s*(\S.*?)\s*$")


@dataclass(frozen=True)
class Map:
    """Named ranges; the smallest one that contains an address names it."""

    ranges: tuple[tuple[Zone, str], ...] = ()

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read QEMU's `info mtree -f` or a guest's /proc/iomem. Raises BadInput."""
        try:
            text = path.read_text(errors="replace")
        except OSError as error:
            raise BadInput(f"--map {path}: {error.strerror or error}") from error
        ranges = tuple(_ranges(text))
        if not ranges:
            raise BadInput(f"--map {path}: expected lines as of `info mtree -f` or /proc/iomem")
        return cls(ranges)

    def name(self, zone: Zone) -> str | None:
        """The name of what contains this zone, with the offset in it."""
        containing = [
            (each.size, each.address, name) for each, name in self.ranges if each.holds(zone)
        ]
        if not containing:
            return None
        _, address, name = min(containing)
        return f"{name}+{zone.address - address:#x}"


def device(zone: Zone, name: str | None) -> object:
    """What a zone belongs to: the same name without its offset, or else the same page or ports."""
    if name is not None:
        return name.rpartition("+")[0] or name
    return zone.pio, zone.address // (PORTS if zone.pio else PAGE)


def _ranges(text: str) -> Iterator[tuple[Zone, str]]:
    pio = False
    for line in text.splitlines():
        if "address-space" in line.lower() or line.startswith(("FlatView", " AS ")):
            pio = "I/O" in line or '"I/O"' in line
        found = _LINE.match(line)
        if found:
            start, end = int(found[1], 16), int(found[2], 16)
            if end >= start:
                yield Zone(pio, start, end - start + 1), printable(found[3])
