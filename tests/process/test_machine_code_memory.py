"""Machine code whose memory changes under it: ROM, shadow RAM, DMA over code, page tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from coalesced.devices.bus.pci import PciFunction
from coalesced.devices.bus.region import Region
from helpers.machine_code import (
    END,
    INTERRUPT_GATE,
    PAGING,
    PROTECTED,
    RESULTS,
    TICKS,
    WORLDS,
    assemble,
    pc,
    results,
)

PAM_RAM = """
    mov eax, 0x80000058
    mov dx, 0xcf8
    out dx, eax
    mov al, 0x30
    mov dx, 0xcfd
"""


class Loader(PciFunction):
    """Writes code to memory when its port 0x2f0 is written."""

    def __init__(self, code: bytes, at: int) -> None:
        super().__init__(name="loader", vendor_id=0x1234, device_id=0xADD2, class_code=0xFF0000)
        region = Region("loader", 1, lambda _at, _size: 0, self._load)
        self.legacy_ports = [(0x2F0, region, 0)]
        self._code, self._at = code, at

    def _load(self, _at: int, _size: int, _value: int) -> None:
        assert self.bus is not None
        self.bus.dma.write(self._at, self._code)


@pytest.mark.parametrize("world", WORLDS)
def test_code_that_a_device_writes_over_is_executed_anew(world: str, tmp_path: Path) -> None:
    code = """
    mov dword [0x5000], 0xc301b8        ; mov ax, 1; ret
    mov dword [0x5000], 0xc30001b8
    call 0x5000
    mov [RESULTS], ax
    out 0x2f0, al
    call 0x5000
    mov [RESULTS + 2], ax
    mov word [0x5001], 3                ; by the processor itself
    call 0x5000
    mov [RESULTS + 4], ax
    """.replace("out 0x2f0, al", "mov dx, 0x2f0\n    out dx, al")
    with pc(world) as found:
        loader = Loader(bytes.fromhex("b80200c3"), 0x5000)
        found.board.bus.add(loader, 5)
        found.run(assemble(code + END, tmp_path))
        data = found.machine.dma.read(RESULTS, 6)
    assert [int.from_bytes(data[at : at + 2], "little") for at in (0, 2, 4)] == [1, 2, 3]


@pytest.mark.parametrize("world", WORLDS)
def test_rom_is_not_written_and_shadow_ram_takes_its_place(world: str, tmp_path: Path) -> None:
    def pam(value: int) -> str:
        return f"""
    mov eax, 0x80000058
    mov dx, 0xcf8
    out dx, eax
    mov al, {value}
    mov dx, 0xcfd
    out dx, al
    """

    code = f"""
    mov ax, 0xf000
    mov es, ax
    mov ax, [es:0xfff0]
    mov [RESULTS], ax
    mov word [es:0xfff0], 0x1234        ; ROM
    mov ax, [es:0xfff0]
    mov [RESULTS + 4], ax
    {pam(0x30)}
    mov word [es:0xfff0], 0x5678        ; RAM
    mov ax, [es:0xfff0]
    mov [RESULTS + 8], ax
    {pam(0)}
    mov ax, [es:0xfff0]
    mov [RESULTS + 12], ax
    """
    rom, written, shadow, again = results(world, tmp_path, code + END, 4)
    assert (rom, written, shadow, again) == (0x00EA, 0x00EA, 0x5678, 0x00EA)


@pytest.mark.parametrize("world", WORLDS[:1])  # a KVM without hardware support has no paging
def test_paging_translates_accesses_and_the_frames_of_interrupts(
    world: str, tmp_path: Path
) -> None:
    """The first 4 MiB lie where they are, and once more at 1 GiB, where the stack is."""
    code = (
        PROTECTED
        + PAGING
        + f"""
main:
    page_tables
    mov dword [0x100400], 0x101003
    gate 0x20, handler, {INTERRUPT_GATE}
    paging_on
    mov esp, 0x40007000
    int 0x20
    mov dword [0x40000000 + RESULTS + 4], 2
    cli
    hlt
handler:
    mov dword [RESULTS], esp
    iret
    """
    )
    assert results(world, tmp_path, code, 2) == [0x40007000 - 12, 2]


@pytest.mark.parametrize("world", WORLDS)
def test_a_halt_right_behind_a_change_of_the_memory_map_halts(world: str, tmp_path: Path) -> None:
    code = PAM_RAM + "    out dx, al\n    nop\n    hlt\n    mov dword [RESULTS], 1\n"
    assert results(world, tmp_path, code + END, 1) == [0]


@pytest.mark.parametrize("world", WORLDS)
def test_the_instruction_behind_sti_is_safe_from_a_change_of_the_map(
    world: str, tmp_path: Path
) -> None:
    code = (
        TICKS
        + PAM_RAM
        + """
    mov bx, ax
pending:
    mov al, 0x0a
    out 0x20, al
    in al, 0x20
    test al, 1
    jz pending
    mov ax, bx
    out dx, al
    sti
    hlt                             ; ends by the tick that is pending, or by the next one
    mov dword [RESULTS + 4], 1
    """
    )
    ticks, done = results(world, tmp_path, code + END, 2)
    assert (ticks >= 1, done) == (True, 1)


@pytest.mark.parametrize("world", WORLDS[:1])  # a KVM without hardware support has no paging
def test_code_behind_a_page_table_that_a_device_writes_over_is_executed_anew(
    world: str, tmp_path: Path
) -> None:
    """Page 0x400000 is page 0x9000, where the device writes `mov eax, 2`."""
    code = (
        PROTECTED
        + PAGING
        + """
main:
    page_tables
    mov dword [0x100004], 0x102003
    mov dword [0x102000], 0x9003
    mov dword [0x9000], 0x000001b8      ; mov eax, 1; ret
    mov word [0x9004], 0xc300
    paging_on
    mov ebx, 0x400000
    call ebx
    mov [RESULTS], eax
    mov dx, 0x2f0
    out dx, al
    call ebx
    mov [RESULTS + 4], eax
    """
    )
    with pc(world) as found:
        found.board.bus.add(Loader(bytes.fromhex("b802000000c3"), 0x9000), 5)
        found.run(assemble(code + END, tmp_path))
        assert found.results(2) == [1, 2]


STRINGS = {
    # What a string of stores leaves in ECX, EDI and the window; it ends before 64 KiB and behind.
    "bytes": ("mov di, 0x10\nmov ecx, 0x1234\nmov al, 0x5a\nrep stosb", 0x1234, 1),
    "words": ("mov di, 0x10\nmov ecx, 0x1234\nmov ax, 0x5a5a\nrep stosw", 0x1234, 2),
    "double words": ("mov di, 0x10\nmov ecx, 0x234\nmov eax, 0x5a5a5a5a\nrep stosd", 0x234, 4),
    "32-bit addresses": ("mov edi, 0x10\nmov ecx, 0x1234\nmov al, 0x5a\na32 rep stosb", 0x1234, 1),
    "backwards": ("std\nmov di, 0x3000\nmov ecx, 0x800\nmov al, 0x5a\nrep stosb\ncld", 0x800, 1),
    "around 64 KiB": ("mov di, 0xff00\nmov ecx, 0x300\nmov al, 0x5a\nrep stosb", 0x300, 1),
    "a loop": ("mov di, 0x10\nmov ecx, 0x321\nmov al, 0x5a\nnext: stosb\nloop next", 0x321, 1),
}


@pytest.mark.parametrize("name", STRINGS)
@pytest.mark.parametrize("world", WORLDS)
def test_a_string_of_stores_is_as_many_writes_with_its_registers(
    world: str, name: str, tmp_path: Path
) -> None:
    code, count, size = STRINGS[name]
    store = f"""
    mov ax, 0xa000
    mov es, ax
    mov dx, 0x3c4
    mov ax, 0x0f02              ; all planes
    out dx, ax
    mov ax, 0x0604
    out dx, ax
    mov dx, 0x3ce
    mov ax, 0x0506              ; 64 KiB at 0xa0000
    out dx, ax
    mov ax, 0xff08              ; every bit
    out dx, ax
    {code}
    mov [RESULTS], ecx
    mov [RESULTS + 4], edi
    """
    with pc(world, "VGA,addr=02.0") as found:
        found.run(assemble(store + END, tmp_path))
        counters, (ecx, edi) = found.machine.counters, found.results(2)
        memory = found.machine.memory
        start = {"backwards": 0x3000 - 0x7FF, "around 64 KiB": 0xFF00}.get(name, 0x10)
        written = [memory.read(0xA0000 + (start + at & 0xFFFF), 1) for at in range(count * size)]
        after = 0x3000 - 0x800 if name == "backwards" else start + count * size & 0xFFFF
        assert memory.read(0xA0000 + after, 1) == 0
    exits = counters.exits_by["ring_full"]
    assert (exits, counters.coalesced) == (count // 170, count - count // 170)
    assert (ecx, edi & 0xFFFF) == (0, (0x3000 - 0x800) if name == "backwards" else after)
    assert set(written) == {0x5A}


@pytest.mark.parametrize("world", WORLDS)
def test_a_string_of_stores_goes_on_from_a_device_into_ram(world: str, tmp_path: Path) -> None:
    """Shadow RAM lies behind the window at 0xa0000."""
    code = """
    mov dx, 0xcf8
    mov eax, 0x80000058
    out dx, eax
    mov dx, 0xcfc + 2
    mov al, 0x33
    out dx, al
    mov ax, 0xbff0
    mov es, ax
    xor di, di
    mov ecx, 0x200
    mov al, 0x5a
    rep stosb
    mov ax, 0xc000
    mov ds, ax
    mov eax, [0xfc]
    mov ebx, [0x100]
    xor dx, dx
    mov ds, dx
    mov [RESULTS], eax
    mov [RESULTS + 4], ebx
    mov [RESULTS + 8], ecx
    """
    with pc(world, "VGA,addr=02.0") as found:
        found.run(assemble(code + END, tmp_path))
        assert found.machine.counters.coalesced == 1 + 0x100 - 1  # 0xcf8 is one
        assert found.results(3) == [0x5A5A5A5A, 0, 0]


@pytest.mark.parametrize("world", WORLDS)
def test_interrupts_come_into_a_string_of_stores(world: str, tmp_path: Path) -> None:
    code = (
        TICKS
        + """
    sti
    mov ax, 0xa000
    mov es, ax
again:
    xor di, di
    mov cx, 0xffff
    rep stosb
    cmp di, 0xffff
    jne wrong
    cmp dword [RESULTS], 20
    jb again
    mov dword [RESULTS + 4], 1
wrong:
    """
    )
    with pc(world, "VGA,addr=02.0") as found:
        found.run(assemble(code + END, tmp_path))
        ticks, done = found.results(2)
    assert (ticks >= 20, done) == (True, 1)
