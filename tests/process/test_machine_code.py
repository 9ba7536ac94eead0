"""Machine code as the guest: the same programs in the guest process and live on KVM."""

from __future__ import annotations

from pathlib import Path

import pytest

from coalesced.hv.errors import GuestError
from helpers.machine_code import (
    END,
    INTERRUPT_GATE,
    PROTECTED,
    TICKS,
    TRAP_GATE,
    WORLDS,
    assemble,
    pc,
    results,
)


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
        (ticks,) = found.results(1)
        assert ticks >= 20  # late ones come one right behind the other
        # A halt for each tick, but for those that came before it; and the last one.
        assert 0 < found.machine.counters.halts <= ticks + 1


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
    code = PROTECTED + "main: mov ebx, 0x1badcafe\nint 0x20\nmov ecx, 0x12345678"
    with pc(world) as found, pytest.raises(GuestError) as raised:
        found.run(assemble(code, tmp_path))
    said = str(raised.value)
    assert "the guest: it shut down by a triple fault" in said
    assert "behind bytes" in said
    assert "cd 20" in said or "int 0x20" in said
    assert "ebx 0x1badcafe" in said


@pytest.mark.parametrize("world", WORLDS)
def test_code_that_leaves_memory_is_the_guest_s_error(world: str, tmp_path: Path) -> None:
    code = "mov bx, 0x1234\njmp 0xa000:0"
    with pc(world, "VGA,addr=02.0") as found, pytest.raises(GuestError) as raised:
        found.run(assemble(code, tmp_path))
    said = str(raised.value)
    assert "; no memory at 0xa0000; eip 0x0" in said
    assert "ebx 0x1234" in said


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


@pytest.mark.parametrize("world", WORLDS)
def test_a_pause_is_no_halt(world: str, tmp_path: Path) -> None:
    code = "mov cx, 100\nnext: pause\nloop next\ninc dword [RESULTS]"
    with pc(world) as found:
        found.run(assemble(code + END, tmp_path))
        assert (found.results(1), found.machine.counters.halts) == ([1], 1)
