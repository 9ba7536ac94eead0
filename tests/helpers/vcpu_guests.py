"""Guests that several vCPUs run at once, as functions of the vCPU's index."""

from __future__ import annotations

import json
import os

import numpy as np

from coalesced.hv.abi import OP
from coalesced.hv.vcpu import Vcpu

FILE = os.path.abspath(__file__)

RAM = 0x10_0000
AREA = 0x1_0000  # bytes of RAM for each vCPU
DEVICE = 0xE000_0000
WINDOW = 0x1000  # bytes of memory, in a device, for each vCPU
QUEUED, EXITS, LOADED = 0x10, 0x20, 0x30  # registers of a window; only the first is coalesced
WORD = 4


def window(index: int) -> int:
    """Where the vCPU's own registers begin."""
    return DEVICE + index * WINDOW


def programs(vcpu: Vcpu) -> None:
    """Run the operations that lie in the vCPU's area as JSON, leave there what each read, and how
    they failed; then halt, and again."""
    area = RAM + vcpu.index * AREA
    while True:
        size = vcpu.load32(area)
        ops = np.array([tuple(op) for op in json.loads(vcpu.read_memory(area + 8, size))], OP)
        error = None
        try:
            vcpu.execute(ops)
        except Exception as raised:
            error = f"{type(raised).__name__}: {raised}"
        data = json.dumps([ops["value"].tolist(), error]).encode()
        vcpu.write_memory(area, len(data).to_bytes(8, "little") + data)
        vcpu.bus.halt()  # type: ignore[attr-defined]


def messages(vcpu: Vcpu, rounds: int) -> None:
    """The first vCPU queues a value and says so in RAM; the second one exits, and answers there."""
    said, heard = RAM, RAM + 64
    for number in range(1, rounds + 1):
        if vcpu.index == 0:
            vcpu.store32(DEVICE + QUEUED, number)
            vcpu.store32(said, number)
            while vcpu.load32(heard) != number:
                pass
        else:
            while vcpu.load32(said) != number:
                pass
            vcpu.store32(DEVICE + EXITS, number)
            vcpu.store32(heard, number)


def into_one_ring(vcpu: Vcpu, count: int) -> None:
    """Queue the numbers from 0 on, in bulk, with the vCPU's index above them."""
    numbers = np.arange(count, dtype=np.uint64) | np.uint64(vcpu.index << 24)
    vcpu.store_many(DEVICE + QUEUED, numbers, size=WORD)


def for_ever(vcpu: Vcpu) -> None:
    """Write numbers, most of them queued, to the vCPU's own registers."""
    number = 0
    while True:
        vcpu.store32(window(vcpu.index) + (EXITS if number % 50 == 49 else QUEUED), number)
        number += 1


def numbers(vcpu: Vcpu, count: int) -> None:
    """Exit with the numbers from 0 on; every other one is queued."""
    for number in range(count):
        vcpu.store32(window(vcpu.index) + (EXITS if number % 2 else QUEUED), number)


def numbers_of_others(vcpu: Vcpu, count: int) -> None:
    """`numbers`, but the first vCPU halts at once."""
    if vcpu.index:
        numbers(vcpu, count)


def loads(vcpu: Vcpu) -> None:
    """Exit all the time."""
    while True:
        vcpu.load32(window(vcpu.index) + LOADED)


def queue_and_wait(vcpu: Vcpu) -> None:
    """Queue one write, and halt until line 3 is raised."""
    vcpu.store32(window(vcpu.index) + QUEUED, 1)
    vcpu.wait_interrupt(1 << 3)


def fail_beside_another(vcpu: Vcpu) -> None:
    """One raises, while the other ones look at RAM without end."""
    if vcpu.index == 1:
        raise ValueError(5)
    while True:
        vcpu.load32(RAM)


def post_and_exit(vcpu: Vcpu, bell: int, exits: int, rounds: int) -> None:
    """Post a number and exit, then wait for the number in RAM."""
    for number in range(1, rounds + 1):
        vcpu.store32(bell, number)
        vcpu.load32(exits)
        while vcpu.load32(RAM) != number:
            pass


def post_beside_an_exit(vcpu: Vcpu, bell: int, exits: int) -> None:
    """The first vCPU posts without end, until the exit of the second one is answered in RAM."""
    if vcpu.index:
        vcpu.store32(exits, 1)
        return
    while vcpu.load32(RAM) != 1:
        vcpu.store32(bell, 0)


def fill_and_wait(vcpu: Vcpu, address: int, count: int) -> None:
    """Queue so many writes, then wait for a word of RAM to become 1."""
    vcpu.fill(address, count, 7, size=4)
    while vcpu.load32(RAM) != 1:
        pass
