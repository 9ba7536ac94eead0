"""The guest of `coalesced qtest`: executes the operations in a mailbox."""

from __future__ import annotations

import os
import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from coalesced.hv.abi import OP, PAGE_SIZE
from coalesced.hv.vcpu import Vcpu

# Guest-physical, above the address lines of any x86: not in the machine's own RAM.
MAILBOX: Final = 1 << 56
HEADER: Final = struct.Struct("<III")  # operations, bytes of data after them, how to answer
OPS_AT: Final = MAILBOX + PAGE_SIZE
OPS_MAX: Final = 8192
DATA_AT: Final = OPS_AT + OPS_MAX * OP.itemsize
DATA_MAX: Final = 512 << 10
MAILBOX_SIZE: Final = DATA_AT + DATA_MAX - MAILBOX
# Registers after it. A store to DRAIN only drains the ring, because it exits.
REGISTERS: Final = MAILBOX + MAILBOX_SIZE
DRAIN: Final = REGISTERS
ANSWER: Final = REGISTERS + 4

BY_PIPE: Final = 0  # queued writes stay queued
BY_EXIT: Final = 1  # a store to ANSWER: cheaper for the server, which then waits for exits alone
STOP: Final = 0xFFFF_FFFF  # instead of a number of operations: the peer has gone

# Interrupt lines for a full mailbox. Odd and even fillings have a line each, so that the line of
# the last filling can stay raised until the next.
FIRST_LINE: Final = 62

# Kinds in addition to those of `hv.abi.OP`. The value is the offset of their bytes in the data; the
# size is the number of these bytes.
OP_READ_MEMORY: Final = 4
OP_WRITE_MEMORY: Final = 5
OP_NOTHING: Final = 6  # reads as 0


def serve(vcpu: Vcpu, wake: str) -> None:
    """Execute one filling of the mailbox after the other until it says STOP.

    The results lie there when a byte arrives at `wake`, the path of a pipe, or at an exit.
    """
    pipe = os.open(wake, os.O_WRONLY | os.O_CLOEXEC)
    filling = 0
    try:
        while True:
            filling += 1
            vcpu.wait_interrupt(1 << FIRST_LINE + (filling & 1))
            count, size, answer = HEADER.unpack(vcpu.read_memory(MAILBOX, HEADER.size))
            if count == STOP:
                return
            ops = np.frombuffer(vcpu.read_memory(OPS_AT, count * OP.itemsize), dtype=OP)
            data = vcpu.read_memory(DATA_AT, size)
            _carry_out(vcpu, ops, data)
            vcpu.write_memory(OPS_AT, ops.tobytes())
            vcpu.write_memory(DATA_AT, bytes(data))
            if answer == BY_EXIT:
                vcpu.store32(ANSWER, filling)
            else:
                os.write(pipe, b"\0")
    finally:
        os.close(pipe)


def _carry_out(vcpu: Vcpu, ops: NDArray[np.void], data: bytearray) -> None:
    start = 0
    for at in np.flatnonzero(ops["kind"] >= OP_READ_MEMORY).tolist():
        vcpu.execute(ops[start:at])
        kind, size, address, place = ops[at].item()
        if kind == OP_READ_MEMORY:
            data[place : place + size] = vcpu.read_memory(address, size)
        elif kind == OP_WRITE_MEMORY:
            vcpu.write_memory(address, bytes(data[place : place + size]))
        start = at + 1
    vcpu.execute(ops[start:])
