"""A ring of the user's own: what is found in each example, and what bad input is answered."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psutil
import pytest

from coalesced.hv.errors import HostError
from coalesced.tools.errors import BadInput
from coalesced.tools.rings import figures, probe
from coalesced.tools.rings.control import Control, Word
from coalesced.tools.rings.drivers import Job
from coalesced.tools.rings.sides import Memory, Pair
from coalesced.tools.stress import own_ring
from coalesced.tools.stress.properties import PROPERTIES, Found, Trials, awaited
from helpers.descriptors import descriptors
from helpers.tiers import some_heavy

EXAMPLES = Path(__file__).parents[3] / "examples" / "rings"

pytestmark = pytest.mark.skipif(
    shutil.which(os.environ.get("CC", "cc")) is None, reason="no C compiler"
)

PYTHON = """
class Ring:
    def __init__(self, memory):
        self.memory, self.words = memory, memory[:16].cast("Q")
        self.room = (len(memory) - 16) // 24
    @staticmethod
    def size(entries):
        return 16 + 24 * entries
    @staticmethod
    def init(memory, entries):
        return 0
    def push(self, entry):
        tail = self.words[0]
        if tail - self.words[1] == self.room:
            return False
        at = 16 + tail % self.room * 24
        self.memory[at : at + 24] = entry
        self.words[0] = tail + 1
        return True
    def pop(self):
        head = self.words[1]
        if head == self.words[0]:
            return None
        at = 16 + head % self.room * 24
        entry = bytes(self.memory[at : at + 24])
        self.words[1] = head + 1
        return entry
"""


def edited(folder: Path, before: str, after: str, example: str = "correct.h") -> str:
    text = (EXAMPLES / example).read_text()
    assert before in text
    path = folder / "edited.h"
    path.write_text(text.replace(before, after))
    return str(path)


@pytest.mark.heavy
def test_a_push_that_spins_is_named_although_the_other_side_yields_its_cpu(tmp_path: Path) -> None:
    """On one CPU a consumer that finds nothing uses next to no CPU time; its calls return."""
    full = "    if (count > capacity - used)\n"
    ring = edited(tmp_path, full, "    if (tail > 1500)\n        for (;;)\n            ;\n" + full)
    found = Found(properties=dict.fromkeys(PROPERTIES))
    trials = Trials(probe.offer_of(ring), 1, found, ["same"])
    for _ in range(20):  # a pair of a large ring gets that far
        trials.dying("consumer")
        if found.failures:
            break
    assert "after it was killed: nothing moves" in found.failures[0]


@pytest.mark.heavy
def test_a_correct_ring_has_every_property_that_it_claims() -> None:
    result = own_ring.run(str(EXAMPLES / "correct.h"), 1, 2.0, None, None)
    assert set(result.found.properties.values()) == {True}, result.found.failures
    assert result.ok
    assert result.found.kills == result.found.recovered > 0
    assert result.found.corruptions > 0
    assert result.found.ns_per_entry


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("example", "broken"),
    [
        ("relaxed_publication.h", "lossless"),
        ("lost_wakeup.h", "never_sleeps_through_news"),
        ("lost_cell.h", "survives_producer_death"),
    ],
)
def test_the_defect_of_an_example_is_found_within_a_minute(example: str, broken: str) -> None:
    if len(os.sched_getaffinity(0)) < 2 and example != "lost_cell.h":
        pytest.skip("two CPUs are needed to see it")
    result = own_ring.run(str(EXAMPLES / example), 1, 50.0, None, None)
    assert result.found.properties[broken] is False
    assert result.found.failures


@pytest.mark.heavy
def test_a_wake_up_that_is_lost_only_by_a_push_that_fills_the_ring_is_found(tmp_path: Path) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("two CPUs are needed to see it")
    looks = "if (atomic_load_explicit(&ring->sleeping, memory_order_relaxed))"
    ring = edited(tmp_path, looks, looks.replace("(", "(used + count < capacity && ", 1))
    found = own_ring.run(ring, 1, 50.0, None, None).found
    wrong = [name for name, holds in found.properties.items() if holds is False]
    assert wrong == ["never_sleeps_through_news"]


@pytest.mark.heavy
def test_a_cell_lost_with_its_producer_is_found_in_seconds() -> None:
    result = own_ring.run(str(EXAMPLES / "lost_cell.h"), 1, 2.0, None, None)
    assert result.found.properties["survives_producer_death"] is False
    assert result.found.properties["lossless"] is True
    assert result.found.properties["hostile_indices"] is None


@pytest.mark.heavy
def test_a_ring_in_python_is_checked_alike(tmp_path: Path) -> None:
    path = tmp_path / "ring.py"
    path.write_text(PYTHON)
    result = own_ring.run(f"{path}:Ring", 1, 1.0, None, None)
    assert [result.found.properties[name] for name in ("lossless", "in_order", "untorn")] == [
        True
    ] * 3, result.found.failures
    path.write_text(
        PYTHON.replace("words[1] = head + 1", "words[1] = head + 1 + (head % 97 == 96)")
    )
    result = own_ring.run(f"{path}:Ring", 1, 1.0, None, None)
    assert result.found.properties["lossless"] is False


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after", "word"),
    [
        ("tail + count,", "tail + count - (tail > 99 && count > 1),", "lost"),
        ("cell[(head + i)", "cell[(head + i - (head > 99))", "duplicated"),
        ("cell[(head + i) &", "cell[(head + (i ^ (count > 1 && i < 2))) &", "reordered"),
        ('RING_POINT("before head");', "if (count) entries[0].word[1]++;", "torn"),
    ],
)  # fmt: skip
def test_each_kind_of_fault_is_counted_as_such(
    tmp_path: Path, before: str, after: str, word: str
) -> None:
    ring = probe.offer_of(edited(tmp_path, before, after)).ring
    pair = Pair(ring, Job(64, 8, until=20_000))
    try:
        assert pair.go()
        assert awaited(lambda: pair.control[Word[word]] > 0, 60.0)
    finally:
        pair.close()


@pytest.mark.slow
@some_heavy(
    "before, after, said",
    [
        ("int ring_pop(", "int ring_popped(", "expected a function ring_pop, found none"),
        ("uint64_t tail =", "uint64_t tail", "it does not compile: "),
        ("    if (count > capacity - used)", "    *(volatile int *)0 = 1;\n    if (0)", "SIGSEGV"),
        (
            "    if (count > capacity - used)",
            "    for (;;);\n    if (0)",
            "push did not return within",
        ),
        ("    return (int)count;", "    return 77;", "answered 77: expected 1"),
        ("    return sizeof(struct ring) +", "    return 0 *", "is 0: expected"),
        ("    return sizeof(struct ring) +", "    return (1UL << 50) +", "expected 8 to 268435456"),
        ("(power < entries)", "(2 * power < entries)", "after 32 entries: expected room for 64"),
        ("hostile-indices", "hostile-takeovers", "claims 'hostile-takeovers': expected some of"),
    ],
    lambda _before, _after, said: "SIGSEGV" in said or "compile" in said or "claims" in said,
)
def test_a_ring_that_cannot_be_tried_is_one_clear_line(
    tmp_path: Path, before: str, after: str, said: str
) -> None:
    kept, children = descriptors(), set(psutil.Process().children())
    with pytest.raises(BadInput, match=r"\A--ring [^\n]+\Z") as caught:
        probe.offer_of(edited(tmp_path, before, after))
    assert said in str(caught.value)
    assert len(descriptors() - kept) <= 1  # the compiled ring
    assert set(psutil.Process().children()) <= children


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(BadInput, match="cannot run the C compiler no-such-compiler"):
        probe.offer_of(str(EXAMPLES / "correct.h"))


def test_the_next_push_cannot_change_the_latency_of_the_last(tmp_path: Path) -> None:
    told: list[str] = []

    class Watched(Control):
        def __setitem__(self, word: Word, value: int) -> None:
            super().__setitem__(word, value)
            told.append(word.name)

        def take_latency(self, nanoseconds: int) -> None:
            super().take_latency(nanoseconds)
            told.append("latency")

    path = tmp_path / "ring.py"
    path.write_text(PYTHON)
    ring = probe.offer_of(f"{path}:Ring").ring
    memory, control, driver = Memory(ring.size(64)), Watched(), ring.driver()
    driver.call("attach", memory.bytes, 1)
    for producer in (True, False):
        driver.run(producer, memory.bytes, control, Job(64, burst=1, pause=5, until=1))
    assert told.index("latency") < told.index("next")
    assert control[Word.next] == 1


def test_a_negative_latency_counts_as_the_longest() -> None:
    control = Control()
    control.take_latency(-5)
    assert control.latencies().tolist() == [2**32 - 1]


@pytest.mark.heavy
def test_a_number_of_entries_does_not_wait_for_the_slowest_rings() -> None:
    """Each pair gets a second: in a ring of 2 entries on one CPU so many would take minutes."""
    result = own_ring.run(str(EXAMPLES / "correct.h"), 1, None, 30_000_000, None)
    assert result.found.entries >= 30_000_000
    assert result.ok, result.found.failures


@pytest.mark.heavy
def test_a_ring_that_loses_entries_has_no_figure(tmp_path: Path) -> None:
    publishes = "    atomic_store_explicit(&ring->tail, tail + count, memory_order_release);"
    loses = "    if (tail >= 5000 && count > 1)\n        return (int)count;\n"
    ring = probe.offer_of(edited(tmp_path, publishes, loses + publishes)).ring
    with pytest.raises(HostError, match=r"no figure for a broken ring: \d+ pushed"):
        figures.nanoseconds(ring, (0, 0))
