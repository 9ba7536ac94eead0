"""Interrupts and exceptions from level 3, their error codes, and page faults.

The reference is QEMU's own translation where a machine's KVM has no protected mode of 32 bits.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.machine_code import (
    INTERRUPT_GATE,
    PAGING,
    PROTECTED,
    RESULTS,
    WORLDS,
    assemble,
    results,
)
from helpers.machine_code_qemu import needs_qemu, results_in_qemu

WORLDS_AND_QEMU = [*WORLDS, pytest.param("qemu", marks=needs_qemu)]
GATE_OF_LEVEL_3 = 0xEE
WORDS = 8

# Each event of level 3 writes what was pushed to the log, and goes on at ebx. A frame: vector,
# error code, EIP as distance from ecx, CS, flags, ESP, SS, and the handler's own ESP.
LEVELS = (
    PROTECTED
    + """
%macro descriptor 3                 ; number, base, type
    mov eax, %2
    mov dword [table + 8 * %1], 0x67
    mov [table + 8 * %1 + 2], ax
    shr eax, 16
    mov [table + 8 * %1 + 4], al
    mov byte [table + 8 * %1 + 5], %3
    mov word [table + 8 * %1 + 6], 0
    mov [table + 8 * %1 + 7], ah
%endmacro
%macro plain 1                      ; an event without an error code
event_%1:
    push dword 0xc0de
    push dword %1
    jmp log_event
%endmacro
%macro coded 1
event_%1:
    push dword %1
    jmp log_event
%endmacro
%macro raise 1+
    mov ebx, %%after
    mov ecx, %%at
%%at:
    %1
%%after:
%endmacro
%macro to_level_3 0
    descriptor 5, task, 0x89
    lgdt [register]
    mov ax, 40
    ltr ax
    push dword 0x23
    push dword 0x6800
    push dword 2
    push dword 0x1b
    push dword user
    iret
%endmacro
log: dd RESULTS
align 8
table: dq 0, 0x00cf9a000000ffff, 0x00cf92000000ffff, 0x00cffa000000ffff, 0x00cff2000000ffff, 0
    dq 0x00cf72000000ffff           ; 0x30: data of level 3 that are not present
register: dw 55
    dd table
task: dd 0, 0x6f00, 16
    times 23 dd 0
plain 0
plain 6
plain 0x30
coded 11
coded 13
coded 14
log_event:                             ; vector, error, EIP, CS, flags, ESP, SS
    mov ax, 16
    mov ds, ax
    mov es, ax
    mov esi, esp
    mov edi, [log]
    mov edx, 7
.next:
    mov eax, [ss:esi]
    mov [edi], eax
    add esi, 4
    add edi, 4
    dec edx
    jnz .next
    sub [edi - 20], ecx
    mov [edi], esp
    add edi, 4
    mov [log], edi
    mov ax, 0x23
    mov ds, ax
    mov es, ax
    add esp, 8
    mov [ss:esp], ebx
    iret
"""
)


def found_in(world: str, folder: Path, code: str, count: int) -> list[int]:
    if world == "qemu":
        return results_in_qemu(assemble(code, folder), folder, RESULTS, count)
    return results(world, folder, code, count)


def frames(words: list[int]) -> list[tuple[int, ...]]:
    """(vector, error code, EIP - that of the instruction, CS, ESP, SS, the handler's ESP)."""
    split = [words[at : at + WORDS] for at in range(0, len(words), WORDS)]
    assert all(frame[4] & 0x3200 == 0 for frame in split), "interrupts are off, at I/O level 0"
    return [tuple(frame[:4] + frame[5:]) for frame in split]


@pytest.mark.parametrize("world", WORLDS_AND_QEMU)
def test_level_3_is_left_by_the_task_s_stack_with_what_was_raised(
    world: str, tmp_path: Path
) -> None:
    """Twice the same exception in a row is no double fault."""
    code = (
        LEVELS
        + f"""
main:
    gate 0, event_0, {INTERRUPT_GATE}
    gate 6, event_6, {INTERRUPT_GATE}
    gate 11, event_11, {INTERRUPT_GATE}
    gate 13, event_13, {INTERRUPT_GATE}
    gate 0x30, event_0x30, {GATE_OF_LEVEL_3}
    gate 0x31, event_0x30, {INTERRUPT_GATE}
    gate 0x32, finish, {GATE_OF_LEVEL_3}
    gate 0x3f, event_0x30, {GATE_OF_LEVEL_3 & 0x7F}
    to_level_3
user:
    mov ax, 0x23
    mov ds, ax
    raise int 0x30
    raise int 0x31                  ; its gate is for level 0
    raise ud2
    raise cli
    mov ax, 16
    raise mov es, ax                ; of level 0
    mov ax, 0x33
    raise mov es, ax
    mov ax, 0x100
    raise mov es, ax                ; beyond the table
    raise int 0x3f                  ; its gate is not present
    xor edx, edx
    xor ebp, ebp
    raise div ebp
    raise div ebp
    int 0x32
finish:
    cli
    hlt
    """
    )
    found = frames(found_in(world, tmp_path, code, 10 * WORDS))
    stack = (0x1B, 0x6800, 0x23, 0x6F00 - 28)
    assert found == [
        (0x30, 0xC0DE, 2, *stack),
        (13, 0x31 * 8 + 2, 0, *stack),
        (6, 0xC0DE, 0, *stack),
        (13, 0, 0, *stack),
        (13, 16, 0, *stack),
        (11, 0x30, 0, *stack),
        (13, 0x100, 0, *stack),
        (11, 0x3F * 8 + 2, 0, *stack),
        (0, 0xC0DE, 0, *stack),
        (0, 0xC0DE, 0, *stack),
    ]


FAULTS = """
main:
    page_tables
    or dword [0x100000], 4              ; level 3 may use the first 4 MiB,
    mov edi, 0x101000
    mov ecx, 0x50
.open:
    or dword [edi], 4                   ; below 0x50000,
    add edi, 4
    loop .open
    mov dword [0x101140], 0             ; 0x50000 is not there,
    mov dword [0x101144], 0x51005       ; 0x51000 only to be read
    gate 14, page_fault, 0x8e
    gate 0x32, finish, 0xee
    paging_on
    mov ebx, .first
    mov al, [0x50000]
.first:
    mov ebx, .second
    mov [0x50123], al
.second:
    to_level_3
user:
    mov ax, 0x23
    mov ds, ax
    mov ebx, .third
    mov al, [0x50000]
.third:
    mov ebx, .fourth
    mov al, [0x52345]                   ; of level 0
.fourth:
    mov al, [0x51000]
    mov ebx, .fifth
    mov [0x51004], al
.fifth:
    int 0x32
finish:
    cli
    hlt
page_fault:
    push ds
    mov ax, 16
    mov ds, ax
    mov edi, [log]
    mov eax, cr2
    mov [edi], eax
    mov eax, [esp + 4]
    mov [edi + 4], eax
    add edi, 8
    mov [log], edi
    pop ds
    add esp, 4
    mov [esp], ebx
    iret
"""


@pytest.mark.parametrize("world", [WORLDS_AND_QEMU[0], WORLDS_AND_QEMU[2]])
def test_page_faults_say_where_and_why(world: str, tmp_path: Path) -> None:
    words = found_in(world, tmp_path, LEVELS + PAGING + FAULTS, 10)
    absent, protected, write, user = 0, 1, 2, 4
    assert list(zip(words[::2], words[1::2], strict=True)) == [
        (0x50000, absent),
        (0x50123, absent | write),
        (0x50000, absent | user),
        (0x52345, protected | user),
        (0x51004, protected | write | user),
    ]


@pytest.mark.parametrize("world", [WORLDS_AND_QEMU[0], WORLDS_AND_QEMU[2]])
def test_a_fault_without_a_handler_is_a_double_fault(world: str, tmp_path: Path) -> None:
    code = (
        PROTECTED
        + f"""
main:
    gate 8, double, {INTERRUPT_GATE}
    xor edx, edx
    xor ecx, ecx
    div ecx
double:
    pop dword [RESULTS]
    mov dword [RESULTS + 4], 8
    cli
    hlt
    """
    )
    assert found_in(world, tmp_path, code, 2) == [0, 8]
