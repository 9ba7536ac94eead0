"""The comments of the headers cite the steps of the table, each at the access that it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from coalesced.tools.litmus.steps import (
    BARRIERS,
    EXIT_STEPS,
    LOCK_STEPS,
    OWN_STEPS,
    OWNER_STEPS,
    POSTED_STEPS,
    RING_STEPS,
    STEPS,
    WAKEUP_STEPS,
    Step,
)

CORE = Path(__file__).parents[3] / "hv" / "core"
HEADERS = {
    "ring.h": RING_STEPS,
    "exit.h": (*EXIT_STEPS, *WAKEUP_STEPS),
    "posted.h": POSTED_STEPS,
    "ring_lock.h": LOCK_STEPS,
    "shared_ring.h": OWNER_STEPS,
    "own_ring.h": OWN_STEPS,
}
CALLS = {
    "load": "atomic_load",
    "store": "atomic_store",
    "change": "exchange",
    "fence": "atomic_thread_fence",
}
# The init of a producer reads `first`, too; a lock is tried, then waited for.
TWICE = ("P1", "L1")

# A comment that starts with a step's id, and what follows it up to the next comment.
CITATION = re.compile(r"/\*\s*(?:\*\s*)?([A-Z]\d)\b(.*?)\*/(.*?)(?=/\*|\Z)", re.DOTALL)


class Cited(NamedTuple):
    """A place in a header that is a step."""

    step: Step
    comment: str
    statement: str


def cited(header: str) -> list[Cited]:
    """The steps that the header's comments name, in its order."""
    text = (CORE / header).read_text()
    found = []
    for match in CITATION.finditer(text):
        name, comment, code = match.groups()
        assert name in STEPS, f"{header}: {name} is no step of the table"
        statement = " ".join(code.partition(";")[0].split())
        found.append(Cited(STEPS[name], " ".join(comment.replace("*", " ").split()), statement))
    return found


ALL = [(header, place) for header in HEADERS for place in cited(header)]


@pytest.mark.parametrize(
    ("header", "place"), ALL, ids=lambda x: x if isinstance(x, str) else x.step.id
)
def test_a_step_is_the_access_that_the_table_says(header: str, place: Cited) -> None:
    """Its kind, its word, its order; and the comment names the partner."""
    step, comment, statement = place
    assert step in HEADERS[header]
    assert step.code in statement, f"{header}: {step.id} is about {step.code}: {statement}"
    if step.access in CALLS and step.order != "plain":
        assert CALLS[step.access] in statement, f"{header}: {step.id}: {statement}"
        order = step.macro or f"memory_order_{step.order}"
        assert re.search(rf"\b{order}[,)]", statement), f"{header}: {step.id}: {statement}"
    if step.partner and "as in" not in comment:
        assert f"pairs with {step.partner}," in comment, f"{header}: {step.id}: {comment}"


@pytest.mark.parametrize("header", HEADERS)
def test_each_step_stands_in_its_header_once_and_in_order(header: str) -> None:
    """Apart are functions that others call, too: the byte (W4), the end of an announcement (S5)."""
    places = [place.step for place in cited(header)]
    for step in HEADERS[header]:
        count = places.count(step)
        if step.code or step.access == "fence":
            wanted = 2 if step.id in TWICE else 1
            assert count == wanted, f"{header} cites {step.id} {count} times"
        else:
            assert count == 0, f"{header}: {step.id} is its callers' business"
    for side in ("P", "C", "W", "N", "L", "D", "A"):
        numbers = [step.id for step in places if step.id[0] == side and step.id != "W4"]
        assert numbers == sorted(numbers), f"{header}: {numbers}"


@pytest.mark.parametrize("header", HEADERS)
def test_each_ordered_access_is_a_step(header: str) -> None:
    """No acquire, release or fence stands in the headers that the table does not know."""
    text = re.sub(r"/\*.*?\*/", "", (CORE / header).read_text(), flags=re.DOTALL)
    macros = dict(re.findall(r"#define ((?:ORDER|FENCE)_\w+) memory_order_(\w+)\n", text))
    steps = {step.macro: step for step in HEADERS[header] if step.macro}
    assert macros == {macro: step.order for macro, step in steps.items()}
    code = re.sub(r"#\w+.*\n", "", text)
    # The table's places, and no order but relaxed beside them.
    ordered = sum(place.step.macro != "" for place in cited(header))
    assert len(re.findall(r"\b(?:ORDER|FENCE)_\w+", code)) == ordered
    assert set(re.findall(r"memory_order_(\w+)", code)) <= {"relaxed"}
    assert not re.search(r"\batomic_(load|store|exchange|fetch_\w+)\(", code), "name the order"


def test_the_partners_are_each_others() -> None:
    """An acquire has its release, a fence its fence, on the other side."""
    pairs = {("acquire", "release"), ("release", "acquire"), ("seq_cst", "seq_cst")}
    for step in STEPS.values():
        if step.partner:
            partner = STEPS[step.partner]
            assert partner.partner == step.id
            assert partner.side != step.side
            assert (step.order, partner.order) in pairs
    ordered = {step.id for step in STEPS.values() if step.macro}
    assert {step for barrier in BARRIERS.values() for step in barrier.steps} == ordered
