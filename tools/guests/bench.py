"""Guests of `coalesced bench`: what is timed runs in the core, from arrays made before."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hv import core
from hv.abi import OP, OP_LOAD, OP_OUT, OP_STORE
from hv.vcpu import Vcpu

# A device of the benchmark's own. A load from CONTROL tells the guest what to do next: how often
# in its low half, the rest in its high half.
CONTROL = 0xFE00_0000
PROBE = 0xFE00_0008  # reads as 0
STAMPED = 0xFE00_0010  # the same, and the time of each load is kept
REGISTERS_SIZE = 0x1000
QUEUE = 0xFE00_1000  # coalesced
QUEUE_SIZE = 0x1000

VGA_WINDOW = 0xA0000
PLANAR_SIZE = 0x10000  # bytes of the window that GR6 maps to all four planes

_CHUNK = 8192  # operations of one array: 192 KiB, so that it stays in the second-level cache


def ring(vcpu: Vcpu) -> None:
    """Queue as many writes as CONTROL asks for, each batch published at its high half; halt."""
    bus = _core(vcpu)
    ops = np.zeros(_CHUNK, OP)
    ops["kind"] = OP_STORE
    ops["size"] = 1
    ops["address"] = QUEUE + np.arange(_CHUNK) % QUEUE_SIZE
    ops["value"] = np.arange(_CHUNK) & 0xFF
    while True:
        command = vcpu.load64(CONTROL)
        bus.publish_every = command >> 32
        _repeat(vcpu, ops, command & 0xFFFF_FFFF)
        bus.halt()


def exits(vcpu: Vcpu) -> None:
    """Load as often as CONTROL asks for from the address in its high half; halt."""
    bus = _core(vcpu)
    ops = np.zeros(_CHUNK, OP)
    ops["kind"] = OP_LOAD
    ops["size"] = 4
    while True:
        command = vcpu.load64(CONTROL)
        ops["address"] = command >> 32
        _repeat(vcpu, ops, command & 0xFFFF_FFFF)
        bus.halt()


def vga(vcpu: Vcpu, writes: int, seed: int = 1) -> None:
    """`writes` random bytes to random places of a planar screen, all planes open."""
    random = np.random.default_rng(seed)
    ops = np.zeros(writes, OP)
    ops["kind"] = OP_STORE
    ops["size"] = 1
    ops["address"] = VGA_WINDOW + random.integers(PLANAR_SIZE, size=writes)
    ops["value"] = random.integers(256, size=writes)
    vcpu.execute(_planar_mode())
    for start in range(0, writes, _CHUNK):
        vcpu.execute(ops[start : start + _CHUNK])


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
    """Registers of 640 x 480 in 16 colours, as far as a write to memory looks at them."""
    registers = (
        (0x3C4, 0x02, 0x0F),  # SR2: all planes
        (0x3C4, 0x04, 0x06),  # SR4: neither chain 4 nor odd/even
        (0x3CE, 0x01, 0x00),  # GR1: no set/reset
        (0x3CE, 0x03, 0x00),  # GR3: no rotation, no logic operation
        (0x3CE, 0x05, 0x00),  # GR5: write mode 0
        (0x3CE, 0x06, 0x05),  # GR6: graphics, 64 KiB at 0xa0000
        (0x3CE, 0x08, 0xFF),  # GR8: every bit
    )
    ops = np.zeros(len(registers), OP)
    ops["kind"] = OP_OUT
    ops["size"] = 2
    ops["address"] = [port for port, _, _ in registers]
    ops["value"] = [index | value << 8 for _, index, value in registers]
    return ops
