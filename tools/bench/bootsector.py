"""The guest loops of `bench vga` as a boot sector, for QEMU.

It sends READY on COM1. For each byte n that it then receives it sends BEGIN, writes 1 << (n & 31)
bytes to the planar screen, scattered or (n & FILLED) in address order, loads a byte, which makes
QEMU flush its ring, and sends END.
"""

from __future__ import annotations

import struct
from itertools import accumulate
from typing import NamedTuple

from coalesced.tools.guests.bench import (
    FILL_CHUNK,
    LCG_INCREMENT,
    LCG_MULTIPLIER,
    LCG_SEED,
    PLANAR_REGISTERS,
    VGA_WINDOW,
)

READY, BEGIN, END = b"R", b"B", b"E"
FILLED = 0x80
ORIGIN = 0x7C00  # where a BIOS loads it
SIZE = 512
COM1 = 0x3F8


class Jump(NamedTuple):
    """A jump of two bytes; the second is the distance to a label."""

    opcode: bytes
    label: str


class Address(NamedTuple):
    """The 16-bit address of a label."""

    label: str


Part = bytes | str | Jump | Address  # code, or a label


def image() -> bytes:
    """The sector, 16-bit code that uses 32-bit registers."""
    table = [struct.pack("<HBB", *register) for register in PLANAR_REGISTERS]
    sector = assemble([*_start(), *_loops(), "table", *table], ORIGIN)
    return sector.ljust(SIZE - 2, b"\0") + b"\x55\xaa"


def assemble(parts: list[Part], origin: int) -> bytes:
    """Place the parts one after the other, and resolve their labels."""
    sizes = [
        0 if isinstance(part, str) else 2 if isinstance(part, tuple) else len(part)
        for part in parts
    ]
    ends = list(accumulate(sizes))
    labels = {part: end for part, end in zip(parts, ends, strict=True) if isinstance(part, str)}
    code = bytearray()
    for part, end in zip(parts, ends, strict=True):
        if isinstance(part, Jump):
            code += part.opcode + struct.pack("b", labels[part.label] - end)
        elif isinstance(part, Address):
            code += struct.pack("<H", origin + labels[part.label])
        elif isinstance(part, bytes):
            code += part
    return bytes(code)


def _start() -> list[Part]:
    """Set the screen up, and send READY."""
    return [
        b"\xfa",  # cli
        b"\x31\xc0",  # xor ax, ax
        b"\x8e\xd8",  # mov ds, ax
        b"\x8e\xd0",  # mov ss, ax
        b"\xbc" + struct.pack("<H", ORIGIN),  # mov sp, ORIGIN
        b"\xb8" + struct.pack("<H", VGA_WINDOW >> 4),  # mov ax, 0xa000
        b"\x8e\xc0",  # mov es, ax
        b"\xfc",  # cld
        b"\xbe",  # mov si, table
        Address("table"),
        b"\xb9" + struct.pack("<H", len(PLANAR_REGISTERS)),  # mov cx, registers
        "next",
        b"\xad",  # lodsw
        b"\x89\xc2",  # mov dx, ax
        b"\xad",  # lodsw
        b"\xef",  # out dx, ax
        Jump(b"\xe2", "next"),  # loop next
        b"\xba" + struct.pack("<H", COM1),  # mov dx, COM1
        b"\xb0" + READY,  # mov al, READY
        b"\xee",  # out dx, al
    ]


def _loops() -> list[Part]:
    """Receive a byte, and write."""
    return [
        "receive",
        b"\xba" + struct.pack("<H", COM1 + 5),  # mov dx, line status
        "again",
        b"\xec",  # in al, dx
        b"\xa8\x01",  # test al, 1: data ready
        Jump(b"\x74", "again"),  # jz again
        b"\xba" + struct.pack("<H", COM1),  # mov dx, COM1
        b"\xec",  # in al, dx
        b"\x88\xc1",  # mov cl, al
        b"\x66\xbb" + struct.pack("<I", 1),  # mov ebx, 1
        b"\x66\xd3\xe3",  # shl ebx, cl
        b"\x31\xff",  # xor di, di
        b"\xa8" + bytes((FILLED,)),  # test al, FILLED
        b"\xb0" + BEGIN,  # mov al, BEGIN
        b"\xee",  # out dx, al
        b"\x66\xb8" + struct.pack("<I", LCG_SEED),  # mov eax, seed
        Jump(b"\x75", "fill"),  # jnz fill
        "write",
        b"\x66\x69\xc0" + struct.pack("<I", LCG_MULTIPLIER),  # imul eax, eax, ...
        b"\x66\x05" + struct.pack("<I", LCG_INCREMENT),  # add eax, ...
        b"\x66\x89\xc7",  # mov edi, eax
        b"\x66\xc1\xef\x10",  # shr edi, 16
        b"\x26\x88\x25",  # mov es:[di], ah
        b"\x66\x4b",  # dec ebx
        Jump(b"\x75", "write"),  # jnz write
        Jump(b"\xeb", "end"),  # jmp end
        "fill",
        b"\x66\xb9" + struct.pack("<I", FILL_CHUNK),  # mov ecx, FILL_CHUNK
        b"\x66\x39\xcb",  # cmp ebx, ecx
        Jump(b"\x77", "part"),  # ja part
        b"\x66\x89\xd9",  # mov ecx, ebx
        "part",
        b"\x66\x29\xcb",  # sub ebx, ecx
        b"\xf3\xaa",  # rep stosb
        b"\x40",  # inc ax
        b"\x66\x85\xdb",  # test ebx, ebx
        Jump(b"\x75", "fill"),  # jnz fill
        "end",
        b"\x26\xa0\x00\x00",  # mov al, es:[0]
        b"\xb0" + END,  # mov al, END
        b"\xee",  # out dx, al
        Jump(b"\xeb", "receive"),  # jmp receive
    ]
