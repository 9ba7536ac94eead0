"""A ring that holds fewer entries after the death of a side, and one that holds as many."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import coalesced
from coalesced.tools.rings import probe
from coalesced.tools.stress import properties
from coalesced.tools.stress.properties import PROPERTIES, Found, Trials

EXAMPLES = Path(__file__).parents[3] / "examples" / "rings"
COMPILER = shutil.which(os.environ.get("CC", "cc"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(COMPILER is None, reason="no C compiler"),
]

# A producer that is killed after it has taken a place never gives it back.
C = """#include <stdatomic.h>

struct ring {
    uint32_t capacity;
    _Alignas(64) _Atomic uint32_t free;
    _Alignas(64) _Atomic uint64_t last;
    _Alignas(64) _Atomic uint64_t first;
    _Alignas(64) struct user_ring_entry entry[];
};

const char ring_claims[] = "producer-death consumer-death";

size_t ring_size(uint32_t entries)
{
    return sizeof(struct ring) + entries * sizeof(struct user_ring_entry);
}

int ring_init(void *memory, uint32_t entries)
{
    struct ring *ring = memory;
    ring->capacity = entries;
    ring->free = entries;
    return 0;
}

int ring_push(void *memory, const struct user_ring_entry *entry)
{
    struct ring *ring = memory;
    if (!atomic_load(&ring->free))
        return 0;
    atomic_fetch_sub(&ring->free, 1);
    RING_POINT("taken");
    uint64_t last = atomic_load(&ring->last);
    ring->entry[last % ring->capacity] = *entry;
    atomic_store(&ring->last, last + 1);
    return 1;
}

int ring_pop(void *memory, struct user_ring_entry *entry)
{
    struct ring *ring = memory;
    uint64_t first = atomic_load(&ring->first);
    if (first == atomic_load(&ring->last))
        return 0;
    *entry = ring->entry[first % ring->capacity];
    atomic_store(&ring->first, first + 1);
    atomic_fetch_add(&ring->free, 1);
    return 1;
}
"""
PYTHON = """
class Ring:
    claims = "producer-death"
    def __init__(self, memory):
        self.memory, self.words = memory, memory[:24].cast("Q")
        self.room = (len(memory) - 24) // 24
    @staticmethod
    def size(entries):
        return 24 + 24 * entries
    @staticmethod
    def init(memory, entries):
        return 0
    def push(self, entry):
        if self.words[2] - self.words[1] >= self.room:
            return False
        self.words[2] += 1
        sum(range(2000))
        at = 24 + self.words[0] % self.room * 24
        self.memory[at : at + 24] = entry
        self.words[0] += 1
        return True
    def pop(self):
        if self.words[1] == self.words[0]:
            return None
        at = 24 + self.words[1] % self.room * 24
        entry = bytes(self.memory[at : at + 24])
        self.words[1] += 1
        return entry
"""


def killed(ring: str, rounds: int) -> Found:
    """Kill a ring's producer, then its consumer, eight times each per round: what is found."""
    found = Found(properties=dict.fromkeys(PROPERTIES))
    trials = Trials(probe.offer_of(ring), 1, found, ["any"])
    for _ in range(rounds):
        trials.dying("producer")
        if found.failures:
            break
        trials.dying("consumer")
    return found


@pytest.mark.heavy
def test_a_correct_ring_holds_as_many_as_before() -> None:
    found = killed(str(EXAMPLES / "correct.h"), 2)
    assert not found.failures
    assert found.kills


@pytest.mark.parametrize(
    "kind",
    [
        "header",
        *(pytest.param(kind, marks=pytest.mark.heavy) for kind in ("shared object", "Python")),
    ],
)
def test_a_place_lost_with_its_producer_is_found(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(properties, "SIZES", (64,) * 6)  # more than are lost: it goes on
    header, library, module = (tmp_path / name for name in ("ring.h", "ring.so", "ring.py"))
    header.write_text(C)
    module.write_text(PYTHON)
    ring = {"header": header, "shared object": library, "Python": f"{module}:Ring"}[kind]
    if kind == "shared object":
        source = tmp_path / "ring.c"
        source.write_text('#include "user_ring.h"\n' + C)
        flags = ["-shared", "-fPIC", "-std=gnu11", f"-I{coalesced.get_include()}"]
        subprocess.run([str(COMPILER), *flags, "-o", library, source], check=True)
    found = killed(str(ring), 8)
    assert found.properties["survives_producer_death"] is False
    assert "in the end" in found.failures[0]
