"""Guests of `coalesced bench`: what is timed runs in the core, from arrays made before."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coalesced.devices.e1000 import registers
from coalesced.hv import core
from coalesced.hv.abi import OP, OP_LOAD, OP_OUT, OP_STORE
from coalesced.hv.vcpu import Vcpu
from coalesced.tools.guests import mode12h

# A device of the benchmark's own. A load from CONTROL returns the guest's next task.
CONTROL = 0xFE00_0000
PROBE = 0xFE00_0008  # reads as 0
BELL = 0xFE00_0018  # what `doorbells` writes to
REGISTERS_SIZE = 0x1000
STAMPED = 0xFE10_0000  # reads as 0, answered in C; the time of each load is kept
QUEUE = 0xFE00_1000  # coalesced
QUEUE_SIZE = 0x1000
APART = 16  # bytes from one zone of `growth` to the next

CARD = 0xFEB0_0000  # registers of a network card
CARD_CAUSES = CARD + 0xC0  # ICR
BESIDE_STOP = 0x1000
BESIDE_DRAWN = 0x1004
BESIDE_STAMPS = 0x2000

WRITES, LOADS = range(2)  # what `growth` does, in the high half of CONTROL

HUB_CARDS = 0xE000_0000  # registers of the cards of `hub`, one behind the other
HUB_BURST = 32  # frames that are sent at once
HUB_TURNS = 8  # bursts until both rings, of 256 descriptors, begin anew

VGA_WINDOW = 0xA0000
PLANAR_SIZE = 0x10000  # bytes of the window that GR6 maps to all four planes
FILL_CHUNK = 0x8000  # writes of one value

# 640 x 480 in 16 colours, as far as a write to memory looks at it: port of the index, index, value.
PLANAR_REGISTERS = (
    (0x3C4, 0x02, 0x0F),  # SR2: all planes
    (0x3C4, 0x04, 0x06),  # SR4: neither chain 4 nor odd/even
    (0x3CE, 0x01, 0x00),  # GR1: no set/reset
    (0x3CE, 0x03, 0x00),  # GR3: no rotation, no logic operation
    (0x3CE, 0x05, 0x00),  # GR5: write mode 0
    (0x3CE, 0x06, 0x05),  # GR6: graphics, 64 KiB at 0xa0000
    (0x3CE, 0x08, 0xFF),  # GR8: every bit
)

# A linear congruential generator modulo 2**32 (Numerical Recipes' constants).
LCG_SEED = 1
LCG_MULTIPLIER = 1664525
LCG_INCREMENT = 1013904223

_CHUNK = 8192  # operations of one array: 192 KiB, so that it stays in the second-level cache


def ring_command(entries: int, publish_every: int, burst: int) -> int:
    """The value that CONTROL has for `ring`; the last two below 1 << 16, the last at most 4096."""
    return entries | publish_every << 32 | burst << 48


def ring(vcpu: Vcpu) -> None:
    """Queue as many writes as CONTROL asks for; halt.

    Each `publish_every` are published at once; behind each `burst` of them, if it is not 0, comes
    a load, which exits.
    """
    bus = _core(vcpu)
    ops = np.zeros(_CHUNK, OP)
    ops["size"] = 1
    while True:
        command = vcpu.load64(CONTROL)
        bus.publish_every = command >> 32 & 0xFFFF
        burst = command >> 48
        entries = command & 0xFFFF_FFFF
        ops["kind"] = OP_STORE
        ops["address"] = QUEUE + np.arange(_CHUNK) % QUEUE_SIZE
        ops["value"] = np.arange(_CHUNK) & 0xFF
        chunk = ops
        if burst:
            chunk = ops[: _CHUNK // (burst + 1) * (burst + 1)]
            chunk["kind"][burst :: burst + 1] = OP_LOAD
            chunk["address"][burst :: burst + 1] = PROBE
            entries += entries // burst
        _repeat(vcpu, chunk, entries)
        bus.halt()


def crowd(vcpu: Vcpu, apart: bool) -> None:
    """Queue as many writes as CONTROL asks for, on each vCPU; halt.

    `apart`: each vCPU writes to a page of its own from QUEUE on.

    In RAM are then the times before and behind them, 16 bytes a vCPU.
    """
    bus = _core(vcpu)
    ops = np.zeros(_CHUNK, OP)
    ops["kind"], ops["size"] = OP_STORE, 1
    ops["address"] = QUEUE + vcpu.index * apart * QUEUE_SIZE + np.arange(_CHUNK) % QUEUE_SIZE
    while True:
        count = vcpu.load64(CONTROL)
        began = time.monotonic_ns()
        _repeat(vcpu, ops, count)
        stamps = np.array([began, time.monotonic_ns()], np.int64)
        bus.write_memory(16 * vcpu.index, stamps.tobytes())
        bus.halt()


def beside(vcpu: Vcpu, loads: int, burst: int, pause_us: int) -> None:
    """Two vCPUs: one draws `burst` writes on a planar screen, sleeps for `pause_us`, and again;
    once it has drawn, the other reads a network card's causes of interrupts `loads` times, 50 us
    apart, then stops it.

    In RAM is then how long each load took, in ns.
    """
    bus = _core(vcpu)
    if vcpu.index == 0:
        vcpu.execute(_planar_mode())
        ops = _planar_writes(burst, "scattered")
        while not vcpu.load32(BESIDE_STOP):
            vcpu.execute(ops)
            vcpu.store32(BESIDE_DRAWN, 1)
            bus.wait_interrupt(0, pause_us / 1e6)
        return
    while not vcpu.load32(BESIDE_DRAWN):
        bus.wait_interrupt(0, 50e-6)
    taken = np.zeros(loads, np.int64)
    for number in range(loads):
        before = time.monotonic_ns()
        bus.load(CARD_CAUSES, 4)
        taken[number] = time.monotonic_ns() - before
        bus.wait_interrupt(0, 50e-6)
    bus.write_memory(BESIDE_STAMPS, taken.tobytes())
    vcpu.store32(BESIDE_STOP, 1)


def exits(vcpu: Vcpu) -> None:
    """Load as often as CONTROL's low half asks for from the address in its high half; halt."""
    bus = _core(vcpu)
    ops = np.zeros(_CHUNK, OP)
    ops["kind"] = OP_LOAD
    ops["size"] = 4
    while True:
        command = vcpu.load64(CONTROL)
        ops["address"] = command >> 32
        _repeat(vcpu, ops, command & 0xFFFF_FFFF)
        bus.halt()


def growth(vcpu: Vcpu, zones: int) -> None:
    """As often as CONTROL's low half asks for, store to one of `zones` zones from QUEUE on, in no
    order, or load from PROBE; halt.
    """
    bus = _core(vcpu)
    stores, loads = np.zeros((2, _CHUNK), OP)
    stores["kind"] = OP_STORE
    stores["size"] = 1
    # The low bits of such a generator repeat soon.
    stores["address"] = QUEUE + (scattered(_CHUNK) >> 8) % zones * APART
    loads["kind"] = OP_LOAD
    loads["size"] = 4
    loads["address"] = PROBE
    while True:
        command = vcpu.load64(CONTROL)
        _repeat(vcpu, loads if command >> 32 == LOADS else stores, command & 0xFFFF_FFFF)
        bus.halt()


def hub(vcpu: Vcpu, cards: int) -> None:
    """As often as CONTROL asks for, send a ring of frames from the first card, in bursts, behind
    each of which the others get as many buffers back; halt.
    """
    bus = _core(vcpu)
    ops = np.zeros((HUB_TURNS, cards), OP)
    ops["kind"] = OP_STORE
    ops["size"] = 4
    ops["address"] = HUB_CARDS + registers.MMIO_SIZE * np.arange(cards) + registers.RDT
    ops["address"][:, 0] = HUB_CARDS + registers.TDT
    tails = HUB_BURST * np.arange(1, HUB_TURNS + 1)[:, np.newaxis]
    ops["value"] = (tails - 1) % (HUB_BURST * HUB_TURNS)  # all buffers but one are the card's
    ops["value"][:, :1] = tails % (HUB_BURST * HUB_TURNS)
    while True:
        for _ in range(vcpu.load64(CONTROL)):
            vcpu.execute(ops.ravel())
        bus.halt()


def doorbells(vcpu: Vcpu) -> None:
    """Write to BELL as often as CONTROL's low half asks for, with a pause of so many us as its high
    half says behind each; halt.

    In RAM are then the CPU time in ns, and the times before and behind each write.
    """
    bus = _core(vcpu)
    while True:
        command = vcpu.load64(CONTROL)
        stamps = np.zeros((2, command & 0xFFFF_FFFF), np.int64)
        pause = (command >> 32) / 1e6
        cpu = time.process_time_ns()
        for number in range(stamps.shape[1]):
            before = time.monotonic_ns()
            bus.store(BELL, 8, before)
            stamps[:, number] = before, time.monotonic_ns()
            bus.wait_interrupt(0, pause)
        cpu = time.process_time_ns() - cpu
        bus.write_memory(0, cpu.to_bytes(8, "little") + stamps.tobytes())
        bus.halt()


def vga(vcpu: Vcpu, writes: int, burst: int = 0, pattern: str = "scattered") -> None:
    """`writes` bytes to a planar screen, all planes open; a load behind each `burst`.

    `pattern`: scattered; filled: one behind the other; loads: of scattered bytes, no writes.
    """
    ops = _planar_writes(writes, pattern)
    whole = _CHUNK
    if burst:
        ops = np.insert(ops, range(burst, writes + 1, burst), _screen_load())
        whole = max(_CHUNK // (burst + 1), 1) * (burst + 1)
    vcpu.execute(_planar_mode())  # the time of a run begins here, without that of its arrays
    for start in range(0, len(ops), whole):
        vcpu.execute(ops[start : start + whole])


def bursts(vcpu: Vcpu) -> None:
    """On a planar screen, as often as CONTROL's low half asks for: as many writes as its high half
    says, then a load; halt.
    """
    bus = _core(vcpu)
    vcpu.execute(_planar_mode())
    writes, known = _planar_writes(_CHUNK, "scattered"), dict[int, NDArray[Any]]()
    while True:
        command = vcpu.load64(CONTROL)
        burst, count = command >> 32, command & 0xFFFF_FFFF
        if burst >= _CHUNK:
            for _ in range(count):
                _repeat(vcpu, writes, burst)
                vcpu.execute(_screen_load())
        else:
            if burst not in known:
                one = np.concatenate((writes[:burst], _screen_load()))
                known[burst] = np.tile(one, _CHUNK // (burst + 1))
            _repeat(vcpu, known[burst], count * (burst + 1))
        bus.halt()


def endless(vcpu: Vcpu) -> None:
    """Draw on a screen in 16 colours until the process is ended.

    Prints the time in ns, as CLOCK_MONOTONIC has it, and the writes so far, some ten times a second
    or more often.
    """
    mode12h.set_mode(vcpu, bytes(number * 63 // 47 for number in range(48)))
    ops = _planar_writes(PLANAR_SIZE, "scattered")
    writes = 0
    while True:
        ops["value"] = ops["value"] + 1 & 0xFF  # what changes is sent to the page
        for start in range(0, len(ops), _CHUNK):
            vcpu.execute(ops[start : start + _CHUNK])
        writes += len(ops)
        print(time.monotonic_ns(), writes)


def scattered(count: int) -> NDArray[np.uint32]:
    """The first `count` numbers of a generator that eight lines of machine code are enough for."""
    powers = np.cumprod(np.full(count, LCG_MULTIPLIER, np.uint32), dtype=np.uint32)
    # x[n] = a**n x[0] + c (1 + a + ... + a**(n - 1)), all modulo 2**32
    sums = np.cumsum(powers, dtype=np.uint32) - powers + np.uint32(1)
    return np.asarray(
        powers * np.uint32(LCG_SEED) + sums * np.uint32(LCG_INCREMENT), dtype=np.uint32
    )


def _planar_writes(count: int, pattern: str) -> NDArray[Any]:
    """Scattered: bits 31 to 16 of each number say where to, bits 15 to 8 what."""
    ops = np.zeros(count, OP)
    ops["kind"] = OP_STORE
    ops["size"] = 1
    if pattern == "filled":
        at = np.arange(count)
        ops["address"] = VGA_WINDOW + at % PLANAR_SIZE
        ops["value"] = (LCG_SEED + at // FILL_CHUNK) & 0xFF
    else:
        numbers = scattered(count)
        ops["address"] = VGA_WINDOW + (numbers >> 16)
        ops["value"] = numbers >> 8 & 0xFF
    if pattern == "loads":
        ops["kind"] = OP_LOAD
    return ops


def _screen_load() -> NDArray[Any]:
    ops = np.zeros(1, OP)
    ops["kind"] = OP_LOAD
    ops["size"] = 1
    ops["address"] = VGA_WINDOW
    return ops


def _core(vcpu: Vcpu) -> core.Vcpu:
    """The vCPU of the guest process; these guests halt between measurements."""
    bus = vcpu.bus
    if not isinstance(bus, core.Vcpu):
        raise TypeError("this guest runs in a guest process only")
    return bus


def _repeat(vcpu: Vcpu, ops: NDArray[np.void], count: int) -> None:
    while count > 0:
        vcpu.execute(ops[:count])
        count -= len(ops)


def _planar_mode() -> NDArray[Any]:
    ops = np.zeros(len(PLANAR_REGISTERS), OP)
    ops["kind"] = OP_OUT
    ops["size"] = 2
    ops["address"] = [port for port, _, _ in PLANAR_REGISTERS]
    ops["value"] = [index | value << 8 for _, index, value in PLANAR_REGISTERS]
    return ops
