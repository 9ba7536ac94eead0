"""`coalesced stress --ring` judges rings that it was not written for, good ones and bad ones."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from helpers.shared_names import left_since, names
from helpers.tiers import some_heavy
from helpers.vmm_cli import one_line, run, until

RINGS = Path(__file__).parents[1] / "data" / "rings"
FIRST_THREE = ("lossless", "in_order", "untorn")
DEATHS = ("survives_producer_death", "survives_consumer_death")
MOST_SECONDS = 180.0  # of up to 40 that it may try for, on a busy machine
POPS = "    if (head == seen_tail) {\n"  # a line of lamport.h

pytestmark = pytest.mark.skipif(
    shutil.which(os.environ.get("CC", "cc")) is None, reason="no C compiler"
)
two_cpus = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU hides it")


class Seen(NamedTuple):
    """A run of the command."""

    status: int
    result: dict[str, Any]
    said: list[str]  # on stderr

    @property
    def broken(self) -> set[str]:
        """The properties that do not hold."""
        return {name for name, holds in self.result["properties"].items() if holds is False}


def tried(cwd: Path, ring: str, seconds: float) -> Seen:
    """The verdict, which comes in time and leaves nothing behind."""
    shared, began = set(os.listdir("/dev/shm")), time.monotonic()
    children = set(psutil.Process().children(recursive=True))
    done = run("stress", "--ring", ring, "--seconds", seconds, "--seed", 1, "--json", cwd=cwd)
    assert time.monotonic() - began < MOST_SECONDS
    assert "Traceback" not in done.stderr
    assert set(psutil.Process().children(recursive=True)) <= children
    assert {name for name in set(os.listdir("/dev/shm")) - shared if "psm_" in name} == set()
    return Seen(done.returncode, json.loads(done.stdout or "{}"), done.stderr.splitlines())


def edited(folder: Path, ring: str, before: str, after: str) -> str:
    """A copy of a good ring with a fault."""
    text = (RINGS / ring).read_text()
    assert text.count(before) == 1, (ring, before)
    path = folder / ring
    path.write_text(text.replace(before, after))
    return str(path)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("ring", "holds"),
    [
        ("lamport.h", (*FIRST_THREE, *DEATHS)),
        ("vyukov.h", FIRST_THREE),
        ("mailbox.h", (*FIRST_THREE, *DEATHS)),
        ("bytes.c", (*FIRST_THREE, *DEATHS)),
        ("mutex.h", (*FIRST_THREE, *DEATHS, "never_sleeps_through_news")),
        ("locked.py:Locked", FIRST_THREE),
        ("locked.py:Shared", FIRST_THREE),
    ],
)
def test_a_good_ring_has_what_it_promises(
    tmp_path: Path, ring: str, holds: tuple[str, ...]
) -> None:
    seen = tried(tmp_path, str(RINGS / ring), 8.0)
    properties = seen.result["properties"]
    assert {name for name, value in properties.items() if value is not None} == set(holds)
    assert (seen.status, seen.broken) == (0, set()), seen
    # Python names the memory that a ring of its own makes and does not give back.
    assert not seen.said or ring.endswith("Shared")
    assert seen.result["ns_per_entry"] > 0


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("ring", "before", "after", "broken"),
    [
        pytest.param(
            "lamport.h",
            "    q->cell[tail % q->capacity] = *entry;\n"
            "    atomic_store_explicit(&q->tail, after(q, tail), memory_order_release);\n",
            "    atomic_store_explicit(&q->tail, after(q, tail), memory_order_release);\n"
            "    q->cell[tail % q->capacity] = *entry;\n",
            FIRST_THREE,
            id="published before it is written",
            marks=two_cpus,
        ),
        pytest.param(
            "lamport.h",
            "q->capacity)\n            return 0;",
            "q->capacity)\n            return 1;",
            ("lossless",),
            id="dropped when full",
        ),
        pytest.param(
            "lamport.h",
            "    *entry = q->cell[head % q->capacity];\n",
            "    *entry = q->cell[head % q->capacity];\n    static int laps;\n"
            "    if (after(q, head) == 0 && ++laps % 2)\n        return 1;\n",
            ("in_order",),
            id="twice where it wraps",
        ),
        pytest.param(
            "vyukov.h",
            "    cell->entry = *entry;\n"
            "    atomic_store_explicit(&cell->sequence, at + 1, memory_order_release);\n",
            "    memcpy(&cell->entry, entry, 16);\n"
            "    atomic_store_explicit(&cell->sequence, at + 1, memory_order_release);\n"
            "    memcpy((char *)&cell->entry + 16, (const char *)entry + 16, 8);\n",
            ("untorn",),
            id="in two halves",
            marks=two_cpus,
        ),
        pytest.param(
            "lamport.h",
            POPS,
            "    static int popped;\n    if (++popped > 200 && used(q, q->tail, head) == 1)\n"
            "        return 0;\n    if (head == seen_tail) {\n",
            ("lossless",),
            id="the last one is never shown",
        ),
        pytest.param(
            "mailbox.h",
            "if (sequence % 2)\n        return 0;",
            "sequence &= ~1u;",
            FIRST_THREE,
            id="overwritten",
        ),
        pytest.param(
            "mutex.h",
            "            return 1;\n",
            "            for (;;)\n                pthread_yield();\n",
            ("never_sleeps_through_news",),
            id="a wait that ends only without news",
        ),
        pytest.param(
            "mutex.h",
            "    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);\n",
            "",
            DEATHS,
            id="a lock that dies with its holder",
        ),
        pytest.param(
            "vyukov.h",
            'const char ring_claims[] = "";',
            "",
            DEATHS,
            id="cells that die with their claimant",
        ),
        pytest.param(
            "bytes.c",
            "    return sizeof(struct stream) + entries * RECORD + 5;",
            "    return sizeof(struct stream) + (entries > 9999 ? 9999 : entries) * RECORD + 5;",
            ("lossless",),
            id="a size too small from some size on",
        ),
        pytest.param(
            "bytes.c",
            "    return sizeof(struct stream) + entries * RECORD + 5;",
            "    return sizeof(struct stream) + entries * RECORD + 5 - (entries == 1024 ? 9 : 0);",
            ("lossless",),
            id="a size that is 9 bytes short",
        ),
        pytest.param(
            "lamport.h",
            "    return 0;\n}\n\nstatic int ring_attach",
            "    return entries == 15 ? 12 : 0;\n}\n\nstatic int ring_attach",
            ("lossless",),
            id="a size that is refused",
        ),
        pytest.param(
            "lamport.h",
            POPS,
            "    static int popped;\n    if (++popped > 2000)\n        *(volatile int *)0 = 1;\n"
            + POPS,
            ("lossless",),
            id="a crash after a while",
        ),
        pytest.param(
            "lamport.h",
            POPS,
            "    static int popped;\n    if (++popped > 2000)\n        _Exit(0);\n" + POPS,
            ("lossless",),
            id="an exit after a while",
        ),
    ],
)
def test_a_bad_ring_is_told_what_does_not_hold(
    tmp_path: Path, ring: str, before: str, after: str, broken: tuple[str, ...]
) -> None:
    prologue = "#include <stdlib.h>\n#include <string.h>\n"
    path = Path(edited(tmp_path, ring, before, after))
    path.write_text(prologue + path.read_text())
    seen = tried(tmp_path, str(path), 40.0)
    assert seen.status == 1
    assert seen.broken, seen
    assert seen.broken <= {*broken}, seen
    assert seen.said == []
    assert len(seen.result["failures"]) == len(seen.broken)


@pytest.mark.slow
@some_heavy(
    "ring, before, after, said",
    [
        ("lamport.h", "uint32_t tail =", "uint32_t tail", "it does not compile: "),
        ("lamport.h", "static uint32_t after(", "uint32_t nowhere();\n#define after(a, b) "
         "nowhere()\nstatic uint32_t behind(", "it cannot be loaded: "),
        ("lamport.h", POPS,
         "    if (used(q, q->tail, head) < 2)\n        return 0;\n    if (head == seen_tail) {\n",
         "the first pop answered 0: expected 1"),
        ("mutex.h", "left > 0; left--", ";", "wait did not return within 3 s"),
        ("lamport.h", POPS, POPS.replace("    ", "    abort();\n    ", 1),
         "pop crashed (SIGABRT)"),
        ("lamport.h", POPS, POPS.replace("    ", "    exit(0);\n    ", 1),
         "pop ended its process"),
        ("lamport.h", "    return sizeof(struct queue) +", "    return", "push crashed (SIGSEGV)"),
        ("bytes.c", "entries * RECORD + 5; /*", "entries * RECORD; /*",
         "it writes behind the 1816 bytes of size(64)"),
        ("mailbox.h", "entries > 1 ? 0 : sizeof", "sizeof", "size(15) is 32: expected 120 to"),
    ],
    lambda _ring, _before, _after, said: "loaded" in said or "writes behind" in said,
)  # fmt: skip
def test_a_ring_that_cannot_be_tried_is_one_line(
    tmp_path: Path, ring: str, before: str, after: str, said: str
) -> None:
    path = Path(edited(tmp_path, ring, before, after))
    path.write_text("#include <stdlib.h>\n" + path.read_text())
    before_all = names()
    for command in (("stress",), ("bench", "ring", "--quick")):
        assert said in one_line(run(*command, "--ring", path, cwd=tmp_path), 2)
    until(lambda: not left_since(before_all))  # another process's is there for a moment only
