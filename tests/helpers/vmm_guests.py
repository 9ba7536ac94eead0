"""Guests that the tests of the VMM run, in the guest process or in this one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from coalesced.hv.abi import OP
from coalesced.hv.vcpu import Vcpu

RESULTS = 1 << 40  # guest RAM outside the machine's own, where guests leave what they got
RESULTS_SIZE = 1 << 20

FILE = str(Path(__file__).resolve())


def leave(vcpu: Vcpu, results: object) -> None:
    """Put what a test is to get at RESULTS: the length in 8 bytes, then JSON."""
    data = json.dumps(results).encode()
    vcpu.write_memory(RESULTS, len(data).to_bytes(8, "little") + data)


def program(vcpu: Vcpu) -> None:
    """Run the arrays of operations that lie at RESULTS as JSON; the values each has left, and
    how it failed, go there."""
    size = int.from_bytes(vcpu.read_memory(RESULTS, 8), "little")
    results = []
    for step in json.loads(vcpu.read_memory(RESULTS + 8, size)):
        ops = np.array([tuple(op) for op in step], dtype=OP)
        error = None
        try:
            vcpu.execute(ops)
        except Exception as raised:
            error = f"{type(raised).__name__}: {raised}"
        results.append([ops["value"].tolist(), error])
    leave(vcpu, results)


def programs(vcpu: Vcpu) -> None:
    """Run one `program` after another, with a halt behind each."""
    while True:
        program(vcpu)
        vcpu.bus.halt()  # type: ignore[attr-defined]


CALLS = [
    "vcpu.load8(-1)",
    "vcpu.load8(1 << 64)",
    "vcpu.load64((1 << 64) - 7)",
    "vcpu.load8((1 << 64) - 1)",
    "vcpu.store16((1 << 64) - 1, 1)",
    "vcpu.store8(0, 1.5)",
    "vcpu.store8('0', 1)",
    "vcpu.store8(0x10, -1) or vcpu.load8(0x10)",
    "vcpu.store8(0x10, 1 << 70 | 5) or vcpu.load8(0x10)",
    "vcpu.store32(0x10, np.uint8(200)) or vcpu.load32(np.uint64(0x10))",
    "vcpu.store32(0x10, np.int64(-2)) or vcpu.load32(0x10)",
    "vcpu.out16(0x200, np.uint8(200)) or vcpu.in16(np.int32(0x200))",
    "vcpu.in8(0x10000)",
    "vcpu.in16(0xffff)",
    "vcpu.in8(0xffff)",
    "vcpu.in8(-1)",
    "vcpu.out32(0xfffd, 0)",
    "vcpu.bus.load(0, 3)",
    "vcpu.bus.store(0, 0, 0)",
    "vcpu.bus.load(0x20000, 16)",
    "vcpu.bus.in_(0, 8)",
    "vcpu.bus.out(0, 3, 0)",
    "vcpu.fill(0x20, 4, 0x1234, 2) or vcpu.load64(0x20)",
    "vcpu.fill(0x20, 4, -1, 4) or vcpu.load64(0x2c)",
    "vcpu.fill(0x20, 0, 0, 3)",
    "vcpu.fill(0x20, 2, 0, 3)",
    "vcpu.fill(0x20, -1, 0)",
    "vcpu.fill(-1, 1, 0)",
    "vcpu.fill((1 << 64) - 4, 2, 0, 4)",
    "vcpu.fill((1 << 64) - 6, 2, 0, 4)",
    "vcpu.store_many([0x10, 0x20020], [1, 2], 3)",
    "vcpu.store_many([0x10, 0x20020], [1, 2, 3])",
    "vcpu.store_many([0x20, 0x20, 0x20000], 7, 2) or vcpu.load32(0x20)",
    "vcpu.store_many([], [])",
    "vcpu.store_many([[0x30, 0x31], [0x32, 0x33]], 9) or vcpu.load32(0x30)",
    "vcpu.execute(np.zeros(4, OP)[::2])",
    "vcpu.execute(np.zeros(4, 'u8'))",
    "vcpu.execute(np.zeros((2, 2), OP))",
    "vcpu.execute(np.zeros(0, OP))",
    "vcpu.execute(np.array([(4, 1, 0, 0)], OP))",
    "vcpu.read_memory(0, -1)",
    "vcpu.read_memory(-1, 1)",
    "vcpu.read_memory(0x3ffe, 4)",
    "bytes(vcpu.read_memory(0x1ffe, 4))",
    "vcpu.read_memory(0x20000, 0)",
    "vcpu.read_memory(0x20000, 1)",
    "vcpu.write_memory(0x3ffe, b'abcd')",
    "bytes(vcpu.read_memory(0x3ffe, 2))",
    "vcpu.write_memory(0x20000, b'')",
    "vcpu.write_memory(0x20000, b'x')",
    "vcpu.wait_interrupt(1, 0)",
]


def odd_calls(vcpu: Vcpu) -> None:
    """Make each of CALLS; what it gave, or type and text of what it raised, go to RESULTS."""
    results = []
    for call in CALLS:
        try:
            got = repr(eval(call, {"vcpu": vcpu, "np": np, "OP": OP}))
        except Exception as raised:
            got = type(raised).__name__
            if "GuestError" in got:
                got += f": {raised}"
        results.append(got)
    leave(vcpu, results)


def poll(vcpu: Vcpu, address: int) -> None:
    """Load a register until it is not zero any more."""
    while vcpu.load8(address) == 0:
        pass


def store_for_ever(vcpu: Vcpu, address: int) -> None:
    """Never exit by itself while the ring has room, never end."""
    vcpu.store8(address, 1)
    while True:
        vcpu.wait_interrupt(1, 1)


def store_and_die(vcpu: Vcpu, address: int, count: int, status: int) -> None:
    """Queue `count` writes, then end the whole process."""
    for number in range(count):
        vcpu.store8(address + number, number + 1)
    os._exit(status)


def wait(vcpu: Vcpu, lines: int, timeout: float | None = None) -> None:
    """Wait for an interrupt; which lines are high goes to RESULTS."""
    leave(vcpu, vcpu.wait_interrupt(lines, timeout))


MARK = 0xF0000  # a load from here separates parts


def parts(vcpu: Vcpu, file: str) -> None:
    """Carry out the parts that lie in a file as JSON: lists of kind, size, address and value."""
    for part in json.loads(Path(file).read_text()):
        vcpu.load8(MARK)
        vcpu.execute(np.array([tuple(op) for op in part], dtype=OP))
