"""Accesses that are not aligned, and that cross the end of a page or region, in both worlds."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.machine_code import END, RESULTS, WORLDS, assemble, pc

WINDOW = 0xA0000
VALUE = 0x44332211
BYTES = VALUE.to_bytes(4, "little")
NOTHING = b"\0"  # is read where a PC has ROM and here nothing is

# The window is 128 KiB; a byte goes to all planes, and comes back from the first.
PLANES = """
    mov dx, 0x3c4
    mov ax, 0x0f02
    out dx, ax
    mov ax, 0x0604
    out dx, ax
    mov dx, 0x3ce
    mov ax, 0x0106
    out dx, ax
    mov ax, 0xff08
    out dx, ax
"""
# Address, and how many of the bytes from there have something behind them.
PLACES = {
    "not aligned": (WINDOW + 1, 4),
    "across a page": (WINDOW + 0xFFE, 4),
    "from RAM into the window": (WINDOW - 1, 4),
    "across the window's end": (0xBFFFD, 3),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("world", WORLDS)
def test_every_byte_of_a_store_and_a_load_comes_where_it_belongs(
    world: str, place: str, tmp_path: Path
) -> None:
    address, there = PLACES[place]
    segment, offset = (address >> 4) - 0x10, 0x100 + (address & 0xF)
    code = f"""
    mov ax, {segment:#x}
    mov es, ax
    mov dword [es:{offset:#x}], {VALUE:#x}
    mov eax, [es:{offset:#x}]
    mov [RESULTS], eax
    mov bx, [es:{offset + 1:#x}]
    mov [RESULTS + 4], bx
    """
    with pc(world, "VGA,addr=02.0") as found:
        found.run(assemble(PLANES + code + END, tmp_path))
        loaded = found.machine.dma.read(RESULTS, 6)
        machine, inside = found.machine, range(max(address, WINDOW), address + there)
        stored = machine.dma.read(address, max(0, WINDOW - address))
        stored += bytes(machine.memory.read(at, 1) for at in inside)
        assert found.machine.counters.failed_writes == 0
    expected = BYTES[:there].ljust(4, NOTHING)
    assert loaded == expected + expected[1:3]
    assert stored == BYTES[:there]


@pytest.mark.parametrize("world", WORLDS)
def test_nothing_is_behind_the_last_port_of_a_chip_and_of_all(world: str, tmp_path: Path) -> None:
    """0x71 is the clock's last port."""
    code = """
    mov al, 0x40
    out 0x70, al
    mov al, 0x5a
    out 0x71, al
    mov dx, 0x71
    in eax, dx
    mov [RESULTS], eax
    mov dx, 0xffff
    out dx, eax
    in eax, dx
    mov [RESULTS + 4], eax
    mov dx, 0xfffe
    out dx, ax
    in eax, dx
    mov [RESULTS + 8], eax
    mov di, RESULTS + 12
    mov cx, 2
    mov dx, 0xffff
    rep insw
    mov si, RESULTS
    outsd
    """
    with pc(world, "VGA,addr=02.0") as found:
        found.run(assemble(code + END, tmp_path))
        loaded = found.machine.dma.read(RESULTS, 16)
    assert loaded == b"\x5a" + b"\xff" * 15
