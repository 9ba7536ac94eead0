"""The guest loops of `bench vga` as a boot sector, for a PC that is not this project's.

On COM1 it says READY, and for each byte n that it then receives: BEGIN, 1 << (n & 31) writes of a
byte to the planar screen, scattered or (n & FILLED) one behind the other, a load that forces out
what is queued, END.
"""

from __future__ import annotations

import struct

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


def image() -> bytes:
    """The sector, 16-bit code that uses 32-bit registers."""
    table = b"".join(
        struct.pack("<HBB", port, index, value) for port, index, value in PLANAR_REGISTERS
    )
    code = _code(0)
    code = _code(ORIGIN + len(code))
    return (code + table).ljust(SIZE - 2, b"\0") + b"\x55\xaa"


def _code(table: int) -> bytes:
    """`table`: where the register values lie."""
    begin = b"".join(
        (
            b"\xfa",  # cli
            b"\x31\xc0",  # xor ax, ax
            b"\x8e\xd8",  # mov ds, ax
            b"\x8e\xd0",  # mov ss, ax
            b"\xbc" + struct.pack("<H", ORIGIN),  # mov sp, ORIGIN
            b"\xb8" + struct.pack("<H", VGA_WINDOW >> 4),  # mov ax, 0xa000
            b"\x8e\xc0",  # mov es, ax
            b"\xfc",  # cld
            b"\xbe" + struct.pack("<H", table),  # mov si, table
            b"\xb9" + struct.pack("<H", len(PLANAR_REGISTERS)),  # mov cx, registers
            b"\xad",  # next: lodsw
            b"\x89\xc2",  # mov dx, ax
            b"\xad",  # lodsw
            b"\xef",  # out dx, ax
            b"\xe2\xf9",  # loop next
            b"\xba" + struct.pack("<H", COM1),  # mov dx, COM1
            b"\xb0" + READY,  # mov al, READY
            b"\xee",  # out dx, al
        )
    )
    body = b"".join(
        (
            b"\xba" + struct.pack("<H", COM1 + 5),  # mov dx, line status
            b"\xec",  # again: in al, dx
            b"\xa8\x01",  # test al, 1: data ready
            b"\x74\xfb",  # jz again
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
            b"\x75\x1d",  # jnz fill
            b"\x66\x69\xc0" + struct.pack("<I", LCG_MULTIPLIER),  # write: imul eax, eax, ...
            b"\x66\x05" + struct.pack("<I", LCG_INCREMENT),  # add eax, ...
            b"\x66\x89\xc7",  # mov edi, eax
            b"\x66\xc1\xef\x10",  # shr edi, 16
            b"\x26\x88\x25",  # mov es:[di], ah
            b"\x66\x4b",  # dec ebx
            b"\x75\xe5",  # jnz write
            b"\xeb\x19",  # jmp end
            b"\x66\xb9" + struct.pack("<I", FILL_CHUNK),  # fill: mov ecx, FILL_CHUNK
            b"\x66\x39\xcb",  # cmp ebx, ecx
            b"\x77\x03",  # ja part
            b"\x66\x89\xd9",  # mov ecx, ebx
            b"\x66\x29\xcb",  # part: sub ebx, ecx
            b"\xf3\xaa",  # rep stosb
            b"\x40",  # inc ax
            b"\x66\x85\xdb",  # test ebx, ebx
            b"\x75\xe7",  # jnz fill
            b"\x26\xa0\x00\x00",  # end: mov al, es:[0]
            b"\xb0" + END,  # mov al, END
            b"\xee",  # out dx, al
        )
    )
    return begin + body + b"\xeb" + struct.pack("b", -len(body) - 2)  # jmp to the body's start
