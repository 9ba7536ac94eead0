"""Start ROMs: what a processor executes after reset where there is no BIOS.

Each is 64 KiB below 1 MiB and below 4 GiB, with the reset vector 16 bytes before its end.
"""

from __future__ import annotations

import struct
from typing import Final

SIZE: Final = 0x10000
BOOT_SECTOR: Final = 0x7C00
STACK: Final = 0x7C00
_SEGMENT: Final = 0xF000
_LINEAR: Final = _SEGMENT << 4
_RESET_VECTOR: Final = 0xFFF0
_GDT_AT: Final = 0x100
_PROTECTED_AT: Final = 0x80
_CODE: Final = 0x08
_DATA: Final = 0x10
# Flat, of 4 GiB, and accessed: the processor would write that bit to the ROM, which exits.
_GDT: Final = struct.pack("<QQQ", 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF)


def real_mode(address: int) -> bytes:
    """A ROM that jumps to 16-bit code below 1 MiB; interrupts are off, the stack ends at STACK."""
    segment, offset = (0, address) if address < SIZE else (address >> 4, address & 0xF)
    code = (
        b"\xfa\xfc"  # cli; cld
        + b"\x31\xc0\x8e\xd8\x8e\xc0\x8e\xd0"  # xor ax, ax; mov ds, es, ss
        + (b"\xbc" + struct.pack("<H", STACK))  # mov sp
        + b"\x31\xd2"  # xor dx, dx: drive 0
        + (b"\xea" + struct.pack("<HH", offset, segment))  # jmp far
    )
    return _rom({0: code})


def protected_mode(address: int, eax: int = 0, ebx: int = 0) -> bytes:
    """A ROM that jumps to 32-bit code, flat and without paging, with these registers."""
    to_protected = (
        b"\xfa\xfc"
        + b"\x8c\xc8\x8e\xd8"  # mov ds, cs
        + (b"\x66\x0f\x01\x16" + struct.pack("<H", _GDT_AT))  # lgdt
        + b"\x0f\x20\xc0\x0c\x01\x0f\x22\xc0"  # CR0.PE
        + (b"\x66\xea" + struct.pack("<IH", _LINEAR + _PROTECTED_AT, _CODE))
    )
    protected = (
        (b"\x66\xb8" + struct.pack("<H", _DATA))
        + b"\x8e\xd8\x8e\xc0\x8e\xe0\x8e\xe8\x8e\xd0"  # mov ds, es, fs, gs, ss
        + (b"\xbc" + struct.pack("<I", STACK))
        + (b"\xb8" + struct.pack("<I", eax))
        + (b"\xbb" + struct.pack("<I", ebx))
        + (b"\xb9" + struct.pack("<I", address) + b"\xff\xe1")  # jmp ecx
    )
    table = _GDT_AT + 8
    register = struct.pack("<HI", len(_GDT) - 1, _LINEAR + table)
    return _rom({0: to_protected, _PROTECTED_AT: protected, _GDT_AT: register, table: _GDT})


def _rom(parts: dict[int, bytes]) -> bytes:
    rom = bytearray(SIZE)
    vector = b"\xea" + struct.pack("<HH", 0, _SEGMENT)
    for offset, part in {**parts, _RESET_VECTOR: vector}.items():
        rom[offset : offset + len(part)] = part
    return bytes(rom)
