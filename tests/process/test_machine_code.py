"""Machine code as the guest: the same programs in the guest process and live on KVM."""

from __future__ import annotations

from pathlib import Path

import pytest

from coalesced.devices.bus.pci import PciFunction
from coalesced.devices.bus.region import Region
from coalesced.hv.errors import GuestError
from helpers.machine_code import RESULTS, WORLDS, assemble, pc

END = "\ncli\nhlt\n"

# To 32-bit protected mode without paging; `main` is 32-bit code with a stack.
PROTECTED = """
    lgdt [gdtr]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    jmp 8:flat
align 8
gdt: dq 0, 0x00cf9a000000ffff, 0x00cf92000000ffff
gdtr: dw 23
    dd gdt
bits 32
flat:
    mov ax, 16
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov esp, 0x7000
    lidt [idtr]
    jmp main
align 8
idt: times 64 dq 0
idtr: dw 64 * 8 - 1
    dd idt
%macro gate 3           ; vector, handler, type
    mov eax, %2
    mov [idt + 8 * %1], ax
    mov word [idt + 8 * %1 + 2], 8
    mov word [idt + 8 * %1 + 4], %3 << 8
    shr eax, 16
    mov [idt + 8 * %1 + 6], ax
%endmacro
"""
INTERRUPT_GATE, TRAP_GATE = 0x8E, 0x8F

# Interrupts 8 to 15 for the first controller, of which only the timer's comes, at 1 kHz.
TIMER = """
    mov al, 0x11
    out 0x20, al
    mov al, 8
    out 0x21, al
    mov al, 4
    out 0x21, al
    mov al, 1
    out 0x21, al
    mov al, 0xfe
    out 0x21, al
    mov al, 0x34
    out 0x43, al
    mov al, 0xa9
    out 0x40, al
    mov al, 0x04
    out 0x40, al
"""
TICKS = (
    """
    mov word [8 * 4], tick
    mov word [8 * 4 + 2], 0
    mov dword [RESULTS], 0
    jmp start
tick:
    push ax
    inc dword [RESULTS]
    mov al, 0x20
    out 0x20, al
    pop ax
    iret
start:
"""
    + TIMER
)


def results(world: str, folder: Path, source: str, count: int) -> list[int]:
    with pc(world) as found:
        found.run(assemble(source, folder))
        return found.results(count)


@pytest.mark.parametrize("world", WORLDS)
def test_stores_go_through_the_ring_and_exit_by_its_rules(world: str, tmp_path: Path) -> None:
    code = """
    mov ax, 0xa000
    mov es, ax
    xor di, di
    mov cx, 1000
    rep stosb
    mov al, [es:0]
    """
    with pc(world, "VGA,addr=02.0") as found:
        found.run(assemble(code + END, tmp_path))
        counters = found.machine.counters
    full = 1000 // 170
    assert (counters.coalesced, counters.exits_by["ring_full"]) == (1000 - full, full)
    assert (counters.exits_by["load"], counters.exits_by["hlt"], counters.exits) == (1, 1, full + 2)


@pytest.mark.parametrize("world", WORLDS)
def test_an_int_enters_its_handler_with_interrupts_off_and_iret_returns(
    world: str, tmp_path: Path
) -> None:
    code = """
    mov word [0x60 * 4], handler
    mov word [0x60 * 4 + 2], 0
    mov sp, 0x7000
    sti
    int 0x60
after:
    pushfd
    pop dword [RESULTS + 4]
    mov [RESULTS + 8], sp
    cli
    hlt
handler:
    pushfd
    pop dword [RESULTS]
    mov bx, sp
    movzx eax, word [bx]
    mov [RESULTS + 12], eax
    mov dword [RESULTS + 16], after
    iret
    """
    inside, outside, stack, pushed, after = results(world, tmp_path, code, 5)
    assert (inside & 0x200, outside & 0x200, stack) == (0, 0x200, 0x7000)
    assert pushed == after


@pytest.mark.parametrize("world", WORLDS)
def test_protected_mode_has_gates_faults_and_error_codes(world: str, tmp_path: Path) -> None:
    code = (
        PROTECTED
        + f"""
main:
    gate 0x20, interrupt, {INTERRUPT_GATE}
    gate 0x21, trap, {TRAP_GATE}
    gate 0, divide, {INTERRUPT_GATE}
    gate 6, undefined, {INTERRUPT_GATE}
    sti
    int 0x20
    int 0x21
    xor edx, edx
    mov eax, 7
    xor ecx, ecx
faulting:
    div ecx
    mov [RESULTS + 8], eax
undefined_instruction:
    ud2
    mov dword [RESULTS + 20], 1
    cli
    hlt
interrupt:
    pushfd
    pop dword [RESULTS]
    iret
trap:
    pushfd
    pop dword [RESULTS + 4]
    iret
divide:                     ; returns to the instruction itself
    mov eax, [esp]
    sub eax, faulting
    mov [RESULTS + 12], eax
    mov eax, 14
    mov ecx, 2
    iret
undefined:
    mov eax, [esp]
    sub eax, undefined_instruction
    mov [RESULTS + 16], eax
    add dword [esp], 2
    iret
    """
    )
    inside, trapped, quotient, at, undefined, done = results(world, tmp_path, code, 6)
    assert (inside & 0x200, trapped & 0x200) == (0, 0x200)
    assert (quotient, at, undefined, done) == (7, 0, 0, 1)


@pytest.mark.parametrize("world", WORLDS)
def test_the_timer_interrupts_a_halted_processor(world: str, tmp_path: Path) -> None:
    code = (
        TICKS
        + """
idle:
    sti
    hlt
    cmp dword [RESULTS], 20
    jb idle
    """
    )
    with pc(world) as found:
        found.run(assemble(code + END, tmp_path))
        assert found.results(1)[0] in (20, 21)
        # A halt for each tick, but for those that came before it; and the last one.
        assert 10 <= found.machine.counters.halts <= 21


@pytest.mark.parametrize("world", WORLDS)
def test_the_timer_interrupts_a_loop_and_leaves_its_registers(world: str, tmp_path: Path) -> None:
    code = (
        TICKS
        + """
    sti
    mov ax, 0x4321
    mov bx, 0x8765
again:
    mov di, 0x5000
    mov cx, 0x800
    rep stosb
    cmp di, 0x5800
    jne wrong
    cmp cx, 0
    jne wrong
    cmp dword [RESULTS], 20
    jb again
    mov [RESULTS + 4], ax
    mov [RESULTS + 8], bx
wrong:
    """
    )
    ticks, ax, bx = results(world, tmp_path, code + END, 3)
    assert (ticks >= 20, ax & 0xFFFF, bx & 0xFFFF) == (True, 0x4321, 0x8765)


@pytest.mark.parametrize("world", WORLDS)
def test_an_interrupt_behind_sti_waits_for_one_instruction(world: str, tmp_path: Path) -> None:
    """Or a tick between STI and HLT would leave the processor halted for good."""
    code = (
        TICKS
        + """
    mov cx, 200
next:
    mov bx, [RESULTS]
pending:                        ; until the controller has a request
    mov al, 0x0a
    out 0x20, al
    in al, 0x20
    test al, 1
    jz pending
    sti
    cli                         ; one instruction later none is taken any more
    nop
    cmp bx, [RESULTS]
    jne early
    sti
taken:
    cmp bx, [RESULTS]
    je taken
    cli
    loop next
    mov dword [RESULTS + 4], 1
early:
    """
    )
    ticks, done = results(world, tmp_path, code + END, 2)
    assert (ticks >= 200, done) == (True, 1)


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


@pytest.mark.parametrize("world", WORLDS)
def test_a_reset_starts_anew_and_keeps_memory(world: str, tmp_path: Path) -> None:
    code = """
    inc dword [RESULTS]
    cmp dword [RESULTS], 3
    je end
    mov eax, 0xffffffff
    mov sp, 0x1234
    mov dx, 0xcf9
    mov al, 6
    out dx, al
    jmp $
end:
    """
    assert results(world, tmp_path, code + END, 1) == [3]


@pytest.mark.parametrize("world", WORLDS)
def test_a_triple_fault_is_the_guest_s_error_with_its_registers(world: str, tmp_path: Path) -> None:
    code = PROTECTED + "main: mov ebx, 0x1badcafe\nint 0x20"
    with pc(world) as found, pytest.raises(GuestError, match=r"triple fault.* ebx 0x1badcafe"):
        found.run(assemble(code, tmp_path))


@pytest.mark.parametrize("world", WORLDS[:1])  # a KVM without hardware support has no paging
def test_paging_translates_accesses_and_the_frames_of_interrupts(
    world: str, tmp_path: Path
) -> None:
    """The first 4 MiB lie where they are, and once more at 1 GiB, where the stack is."""
    code = (
        PROTECTED
        + f"""
main:
    mov edi, 0x100000
    mov ecx, 2048
    xor eax, eax
    rep stosd
    mov dword [0x100000], 0x101003
    mov dword [0x100400], 0x101003
    mov edi, 0x101000
    mov eax, 3
fill:
    stosd
    add eax, 0x1000
    cmp edi, 0x102000
    jb fill
    gate 0x20, handler, {INTERRUPT_GATE}
    mov eax, 0x100000
    mov cr3, eax
    mov eax, cr0
    or eax, 0x80000000
    mov cr0, eax
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


PAM_RAM = """
    mov eax, 0x80000058
    mov dx, 0xcf8
    out dx, eax
    mov al, 0x30
    mov dx, 0xcfd
"""


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


@pytest.mark.parametrize("world", WORLDS)
def test_a_queued_reset_is_carried_out_at_a_halt(world: str, tmp_path: Path) -> None:
    code = """
    inc dword [RESULTS]
    cmp dword [RESULTS], 2
    je end
    mov dx, 0xcf9
    mov al, 2
    out dx, al
    mov al, 6
    out dx, al
    cli
    hlt
    mov dword [RESULTS + 4], 1
end:
    """
    assert results(world, tmp_path, code + END, 2) == [2, 0]


@pytest.mark.parametrize("world", WORLDS[:1])  # a KVM without hardware support has no paging
def test_code_behind_a_page_table_that_a_device_writes_over_is_executed_anew(
    world: str, tmp_path: Path
) -> None:
    """Page 0x400000 is page 0x9000, where the device writes `mov eax, 2`."""
    code = (
        PROTECTED
        + """
main:
    mov edi, 0x100000
    mov ecx, 3072
    xor eax, eax
    rep stosd
    mov dword [0x100000], 0x101003
    mov dword [0x100004], 0x102003
    mov dword [0x102000], 0x9003
    mov edi, 0x101000
    mov eax, 3
fill:
    stosd
    add eax, 0x1000
    cmp edi, 0x102000
    jb fill
    mov dword [0x9000], 0x000001b8      ; mov eax, 1; ret
    mov word [0x9004], 0xc300
    mov eax, 0x100000
    mov cr3, eax
    mov eax, cr0
    or eax, 0x80000000
    mov cr0, eax
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
