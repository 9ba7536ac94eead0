"""The addresses of a machine's network cards, as QEMU hands them out."""

from __future__ import annotations

import re
from typing import Final

_PREFIX: Final = bytes((0x52, 0x54, 0x00, 0x12, 0x34))
_FIRST: Final = 0x56
_FORM: Final = re.compile(r"[0-9a-fA-F]{2}(?:([:-])[0-9a-fA-F]{2}(?:\1[0-9a-fA-F]{2}){4})")


def parse(text: str) -> bytes:
    """Six hexadecimal bytes between colons or dashes. Raises ValueError."""
    if not _FORM.fullmatch(text):
        raise ValueError(text)
    return bytes.fromhex(text.replace(text[2], ""))


class MacAddresses:
    """Those in use: a card without an address of its own gets 52:54:00:12:34:56 or the next free.

    The same address may be given to several cards, as in QEMU.
    """

    def __init__(self) -> None:
        self._used: set[bytes] = set()

    def claim(self, wanted: bytes | None) -> bytes:
        """That address, or a free one for None and for all zero. ValueError when none is left."""
        if not wanted or not any(wanted):
            free = (_PREFIX + bytes((last,)) for last in range(_FIRST, 0xFF))
            wanted = next((mac for mac in free if mac not in self._used), None)
        if wanted is None:
            raise ValueError("no default MAC address is free")
        self._used.add(wanted)
        return wanted
