"""Programs in assembly that run as a guest in the guest process, and live on KVM."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coalesced.hv.cpu.guest import GUEST
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.errors import GuestError
from coalesced.hv.process import GuestProcess
from coalesced.tools.boot import start
from coalesced.vmm.accel.kvm_code import KvmProcessor
from coalesced.vmm.accel.process import ProcessAccelerator
from coalesced.vmm.board import Board
from coalesced.vmm.devicespec import create, parse_spec
from coalesced.vmm.machine import Machine
from helpers.kvm_sides import needs_kvm

needs_nasm = pytest.mark.skipif(shutil.which("nasm") is None, reason="no nasm on this machine")
needs_unicorn = pytest.mark.skipif(
    importlib.util.find_spec("unicorn") is None, reason="unicorn comes with the extra [cpu]"
)
WORLDS = [
    pytest.param("process", marks=[needs_nasm, needs_unicorn]),
    pytest.param("kvm", marks=[needs_nasm, needs_kvm]),
]

CODE = 0x8000
RESULTS = 0x6000
MEMORY = 4 << 20
LATEST = 60.0  # seconds after which a program that does not end is stopped

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

# A page directory, a table that has the first 4 MiB where they are, and room for one more.
PAGING = """
%macro page_tables 0
    mov edi, 0x100000
    mov ecx, 3072
    xor eax, eax
    rep stosd
    mov dword [0x100000], 0x101003
    mov edi, 0x101000
    mov eax, 3
%%fill:
    stosd
    add eax, 0x1000
    cmp edi, 0x102000
    jb %%fill
%endmacro
%macro paging_on 0
    mov eax, 0x100000
    mov cr3, eax
    mov eax, cr0
    or eax, 0x80000000
    mov cr0, eax
%endmacro
"""

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


def assemble(source: str, folder: Path) -> bytes:
    """Machine code of a program that is loaded at CODE; RESULTS is a name of its."""
    return assemble_file(f"bits 16\norg {CODE:#x}\nRESULTS equ {RESULTS:#x}\n{source}\n", folder)


def assemble_file(text: str, folder: Path) -> bytes:
    """Machine code of a whole source."""
    (folder / "program.asm").write_text(text)
    output = folder / "program"
    subprocess.run(
        ["nasm", "-f", "bin", "-o", output, folder / "program.asm"], check=True, text=True
    )
    return output.read_bytes()


class Pc:
    """A PC with a VGA whose guest is machine code."""

    def __init__(self, machine: Machine, *specs: str) -> None:
        self.machine = machine
        self.board = Board(machine, MEMORY)
        for text in specs:
            spec = parse_spec(text)
            self.board.add(create(spec, self.board.addresses), spec)
        self.board.complete()
        interrupts = machine.take_interrupts(self.board.pic.acknowledge)
        self.board.pic.on_intr = interrupts.set_pin
        self.timed_out = False
        self.latest = LATEST

    def run(self, code: bytes) -> None:
        """Execute a program in real mode until it halts with interrupts off."""
        self.board.add_bios(start.real_mode(CODE))
        self.machine.dma.write(CODE, code)
        self.machine.loop.call_at(time.monotonic() + self.latest, self._give_up)
        try:
            self.machine.run(GUEST)
        except GuestError as error:
            if "emulator does not know" in str(error):
                pytest.skip(f"this machine's KVM: {error}")
            raise
        assert not self.timed_out or self.latest < LATEST

    def _give_up(self) -> None:
        self.timed_out = True
        self.machine.stop()

    def results(self, count: int) -> list[int]:
        """The first 32-bit words at RESULTS."""
        data = self.machine.dma.read(RESULTS, 4 * count)
        return [int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data), 4)]


@contextmanager
def pc(world: str, *specs: str, ring_pages: int = 1, coalesce: bool = True) -> Iterator[Pc]:
    """A PC in one of WORLDS."""
    accel = (
        KvmProcessor()
        if world == "kvm"
        else ProcessAccelerator(GuestProcess(), ring_pages, WaitPolicy.ADAPTIVE)
    )
    with Machine(accel, coalesce=coalesce, staleness=0.05) as machine:
        yield Pc(machine, *specs)


def results(world: str, folder: Path, source: str, count: int) -> list[int]:
    with pc(world) as found:
        found.run(assemble(source, folder))
        return found.results(count)
