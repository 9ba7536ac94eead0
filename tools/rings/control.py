"""The words that both sides of a ring and their parent share (struct control in drive.h)."""

from __future__ import annotations

import mmap
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

SEEN = 65536
SAMPLES = 65536
_SEEN_AT = 32
SIZE = 8 * (_SEEN_AT + SEEN) + 4 * SAMPLES


class Word(IntEnum):
    """Places of 64-bit words, by their writer: the parent, the producer, the consumer."""

    go = 0
    stop = 1
    gap_from = 2
    gap_to = 3
    again_from = 4
    producer_ready = 8
    producer_done = 9
    producer_calls = 10
    pushing = 11
    pushed = 12
    pushed_at = 13
    pushed_by = 14
    consumer_ready = 16
    consumer_done = 17
    consumer_calls = 18
    next = 19
    popping = 20
    lost = 21
    duplicated = 22
    redelivered = 23
    reordered = 24
    torn = 25
    waits = 26
    slept_through = 27
    samples = 28


class Control:
    """Shared memory without a name, inherited by fork."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, SIZE)
        self.words: NDArray[np.uint64] = np.frombuffer(self.memory, np.uint64, _SEEN_AT)
        self.seen: NDArray[np.uint64] = np.frombuffer(self.memory, np.uint64, SEEN, 8 * _SEEN_AT)
        self._latency = np.frombuffer(self.memory, np.uint32, SAMPLES, 8 * (_SEEN_AT + SEEN))

        self[Word.again_from] = 1 << 63  # none may come again

    def __getitem__(self, word: Word) -> int:
        return int(self.words[word])

    def __setitem__(self, word: Word, value: int) -> None:
        self.words[word] = value

    def latencies(self) -> NDArray[np.uint32]:
        """Nanoseconds from a push's start to the pop's return."""
        return self._latency[: min(self[Word.samples], SAMPLES)]

    def take_latency(self, nanoseconds: int) -> None:
        """Keep one of them; one that a broken ring makes negative counts as the longest."""
        kept = nanoseconds if 0 <= nanoseconds < 2**32 else 2**32 - 1
        self._latency[self[Word.samples] % SAMPLES] = kept
        self[Word.samples] += 1
