"""A guest for a card whose receive buffers are given by a coalesced write."""

from __future__ import annotations

from coalesced.hv.vcpu import Vcpu

CARD = 0x20000
GIVEN = CARD  # a store: so many buffers have been given so far
LINES = 0b11 << 10  # one for every other frame, up until the next
RESULT = 0x1000  # guest RAM: frames that came


def refill_and_wait(vcpu: Vcpu, frames: int, patience: float) -> None:
    """Give a buffer, wait for the interrupt of its frame, and so on, without a single exit."""
    for number in range(frames):
        vcpu.store32(GIVEN, number + 1)
        if not vcpu.wait_interrupt(1 << 10 + number % 2, patience):
            return
        vcpu.store32(RESULT, number + 1)


def poll_memory(vcpu: Vcpu, frames: int) -> None:
    """Give all buffers at once, and look into RAM for what came, without waiting."""
    vcpu.store32(GIVEN, frames)
    while vcpu.load32(RESULT) < frames:
        pass
