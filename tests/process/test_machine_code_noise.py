"""Random machine code, one instruction at a time: neither process ends by it."""

from __future__ import annotations

import os
import random
import struct
import time
from contextlib import suppress
from pathlib import Path

import pytest

from coalesced.hv.cpu.guest import GUEST
from coalesced.hv.errors import GuestError
from helpers.machine_code import TIMER, assemble_file, needs_nasm, needs_unicorn, pc

NOISE_AT = 0x20000
COUNT_AT = 0x0600
HLT, NOP = b"\xf4", b"\x90"
RUN = 2.0  # seconds at most, as noise can turn its interrupts off for good

# Each interrupt ends by itself.
INTERRUPTS = TIMER.replace("mov al, 1\n", "mov al, 3\n")

# Each instruction traps, and every interrupt and exception counts one and goes on somewhere in
# 64 KiB of noise, with new registers; the code and its table lie in ROM, which noise cannot change.
ROM = f"""
bits 16
org 0
begin:
    cli
    o32 lidt [cs:idtr]
    {INTERRUPTS}
next:
    cld
    xor ax, ax
    mov ss, ax
    mov sp, 0x8000
    mov ds, ax
    inc dword [{COUNT_AT:#x}]
    mov eax, [{COUNT_AT:#x}]
    imul eax, eax, 0x9e3779b1
    mov ebx, eax
    mov ecx, eax
    and ecx, 0xff
    mov edx, eax
    mov esi, eax
    mov edi, eax
    mov es, ax
    shr eax, 16
    pushf
    or word [esp], 0x300        ; trap behind one instruction
    push {NOISE_AT >> 4:#x}
    push ax
    iret
idtr: dw 0x3ff
    dd 0xf0000 + table
align 16
table: times 256 dw next, 0xf000
times 0xfff0 - ($ - $$) nop
    jmp 0xf000:begin
times 0x10000 - ($ - $$) nop
"""


def instructions(rom: bytes, noise: bytes) -> int:
    """Run noise for a while; how many instructions of it were executed."""
    with pc("process", "VGA,addr=02.0") as found:
        machine = found.machine
        found.board.add_bios(rom)
        machine.dma.write(NOISE_AT, noise.replace(HLT, NOP))  # a halt may be for good
        total = last = still = 0

        def look() -> None:
            nonlocal total, last, still
            (now,) = struct.unpack("<I", machine.dma.read(COUNT_AT, 4))
            if 0 < now - last < 100_000:  # else noise wrote there
                total += now - last
            still = 0 if now != last else still + 1
            last = now
            if still > 10:  # noise has turned the trap off, and runs as it likes
                machine.stop()
            machine.loop.call_at(time.monotonic() + 0.02, look)

        look()
        machine.loop.call_at(time.monotonic() + RUN, machine.stop)
        with suppress(GuestError):
            machine.run(GUEST)
        look()
        assert machine.counters.failed_writes == 0, machine.counters.failures
        return total


@needs_unicorn
@needs_nasm
@pytest.mark.heavy
def test_instructions_of_noise_harm_neither_process(tmp_path: Path) -> None:
    seed = int(os.environ.get("NOISE_SEED", random.randrange(1 << 32)))
    print(f"NOISE_SEED={seed}")
    source = random.Random(seed)
    wanted = int(os.environ.get("NOISE_INSTRUCTIONS", "5000"))
    rom = assemble_file(ROM, tmp_path)
    done = runs = 0
    began = time.monotonic()
    while done < wanted:
        done += instructions(rom, source.randbytes(0x10000))
        runs += 1
    print(f"{done} instructions in {runs} runs, {time.monotonic() - began:.1f} s")
