"""The guest of `coalesced stress`: writes a stream of numbered entries, as fast as it can."""

from __future__ import annotations

import random

import numpy as np
from numpy.typing import NDArray

from coalesced.hv.abi import OP_IN, OP_LOAD, OP_STORE, PAGE_SIZE, ring_slots
from coalesced.hv.vcpu import Vcpu
from coalesced.tools.stress import pattern
from coalesced.tools.stress.pattern import PERIOD, Style

# A page of guest RAM in which both sides leave notes of 8 bytes: those of vCPU 0 come first, and
# of each further one NOTES_EACH bytes behind.
NOTES = 0x1000_0000
STOP = NOTES  # not 0: end after this burst; that of vCPU 0 is for all
WRITTEN = NOTES + 8  # entries whose writes were all carried out
WRONG = NOTES + 16  # loads that gave another value than the device's
ASKED = NOTES + 24  # number of the last proof that a third party has asked for
DONE = NOTES + 32  # 1 when the guest has ended by itself
NOTES_EACH = 64

LINE = 5  # of vCPU 0; of each further one the next
SILENCE = 1 << 44  # a write there exits and lowers the interrupt
PROOF = 1 << 46  # coalesced; nothing is done with these writes
COMMON_PROOF = 1 << 48  # the same in the VM's ring, where there are own ones
PROVED = 1 << 47  # a write there exits; the number of the proof that it ends

_ONE_BY_ONE = 4  # operations of a burst that are calls of their own
_BATCH = 64  # entries that may be written and not published


def write(
    vcpu: Vcpu,
    seed: int,
    style: str,
    entries: int,
    longest: int,
    bells: float,
    luck: int,
    ring_pages: int,
    rings: int,
) -> None:
    """Write the vCPU's stream of a seed and a style until STOP is set.

    entries: least number of entries, 0 for no limit. longest: operations of a burst; most are much
    shorter. bells: share of bursts after which the guest waits for an interrupt that a queued
    write raises. luck: seed of the bursts. rings: own ones, with as many pages as the VM's.
    """
    stream = pattern.stream(seed, Style(style), vcpu.index)
    chance = random.Random(luck + vcpu.index)
    notes = NOTES_EACH * vcpu.index
    wrong = lap = proofs = 0
    while True:
        ops = stream.operations(lap)
        before = lap * PERIOD
        stop = len(ops)
        if entries:
            stop = int(np.searchsorted(stream.entry, entries - before))
        at = 0
        while at < stop and not vcpu.load64(STOP):
            end = min(at + int(longest ** chance.random()), stop)
            _burst(vcpu, ops, at, end)
            at = end
            number = before + (PERIOD if at == len(ops) else int(stream.entry[at]))
            vcpu.store64(notes + WRITTEN, number)
            if chance.random() < bells:
                _ring_the_bell(vcpu, number)
            if (asked := vcpu.load64(notes + ASKED)) != proofs:
                proofs = asked
                _prove(vcpu, proofs, ring_slots(ring_pages), rings)
        done = int(np.searchsorted(stream.probes, at))
        given = ops["value"][stream.probes[:done]]
        wrong += int(np.count_nonzero(given != stream.answers(lap)[:done]))
        vcpu.store64(notes + WRONG, wrong)
        if at < len(ops):
            vcpu.store64(notes + DONE, 1)
            return
        lap += 1


def _burst(vcpu: Vcpu, ops: NDArray[np.void], start: int, end: int) -> None:
    if end - start > _ONE_BY_ONE:
        vcpu.execute(ops[start:end])
        return
    bus = vcpu.bus
    for at in range(start, end):
        kind, size, address, value = ops[at].item()
        if kind == OP_STORE:
            bus.store(address, size, value)
        elif kind == OP_LOAD:
            ops["value"][at] = bus.load(address, size)
        elif kind == OP_IN:
            ops["value"][at] = bus.in_(address, size)
        else:
            bus.out(address, size, value)


def _ring_the_bell(vcpu: Vcpu, number: int) -> None:
    """A posted write, or one that only a timed flush brings to its device."""
    bell = pattern.own(pattern.BELL, vcpu.index)
    vcpu.store32(bell + number % pattern.MEMORY_MODULUS * PAGE_SIZE, 0)
    vcpu.wait_interrupt(1 << LINE + vcpu.index)
    vcpu.store32(pattern.own(SILENCE, vcpu.index), 0)


def _prove(vcpu: Vcpu, number: int, slots: int, rings: int) -> None:
    """Use every slot of the ring again, post a write where a bell is posted, and exit in every way,
    so that nothing which was in either before has been left unread; then report it. vCPU 0, whose
    own ring is the first where there are any, also uses those of the VM's, which may be nobody's.

    The ring comes first: after an exit each side would have written its index again before the
    other one reads it, and of the corruptions that are detected a third would not be.
    """
    port = pattern.own(pattern.PROBE_PORT, vcpu.index)
    vcpu.fill(pattern.own(PROOF, vcpu.index), slots + _BATCH, 0, 8)
    if rings and vcpu.index == 0:
        vcpu.fill(COMMON_PROOF, slots + _BATCH, 0, 8)
    vcpu.store32(pattern.own(pattern.BELL, vcpu.index), 0)  # nobody waits for its interrupt
    vcpu.load32(pattern.own(pattern.PROBE, vcpu.index))
    vcpu.in32(port)
    vcpu.out32(port, 0)
    vcpu.store64(pattern.own(PROVED, vcpu.index), number)
