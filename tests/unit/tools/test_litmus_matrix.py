"""The shipped ring.h and exit.h, each order relaxed in the headers themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coalesced.tools.errors import BadInput
from coalesced.tools.litmus import checking, verdicts
from coalesced.tools.litmus.checking import CHECKER, check

RING = CHECKER / "programs" / "ring.c"

# Barrier: the models that need it.
NEEDED = {
    "ACQUIRE_FIRST": set(),
    "RELEASE_LAST": {"rc11", "weak"},
    "ACQUIRE_LAST": {"rc11", "weak"},
    "RELEASE_FIRST": {"weak"},
    "RELEASE_EXIT": {"rc11", "weak"},
    "ACQUIRE_EXIT": {"rc11", "weak"},
    "RELEASE_RESUME": {"rc11", "weak"},
    "ACQUIRE_RESUME": {"rc11", "weak"},
    "FENCE_WAKEUP": {"tso", "rc11", "weak"},
    "WAKER_FENCE": {"tso", "rc11", "weak"},
    "SLEEPER_FENCE": {"tso", "rc11", "weak"},
}


@pytest.mark.heavy
def test_each_barrier_is_needed_in_the_models_that_reorder_what_it_orders(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert verdicts.of_matrix(3, 4, json=True) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"]
    assert report["bounds"] == {"slots": 3, "entries": 4}
    needed = {
        barrier: {model for model, says in row.items() if says == "needed"}
        for barrier, row in report["matrix"].items()
    }
    assert needed == NEEDED
    for row in report["matrix"].values():
        assert set(row) == set(checking.MODELS)
        assert all(says == "needed" or says.startswith("redundant: ") for says in row.values())
    for case in report["cases"]:
        assert case["ok"] == (not case["events"])


@pytest.mark.heavy
def test_release_of_first_shows_only_where_a_slot_is_used_a_second_time() -> None:
    """A late read finds a later entry, which takes three slots and four entries."""
    relaxed = "ORDER_RELEASE_FIRST=memory_order_relaxed"
    for slots, entries in ((2, 3), (3, 3)):
        [small] = check(RING, ["weak"], [f"SLOTS={slots}", f"ENTRIES={entries}", relaxed])
        assert small.ok
    [enough] = check(RING, ["weak"], ["SLOTS=3", "ENTRIES=4", relaxed])
    assert not enough.ok
    stores = {event.text for event in enough.events if event.kind == "store"}
    assert "&c->ring->first" in stores


@pytest.mark.slow
def test_a_check_that_fails_names_its_line_and_the_steps_before_it(tmp_path: Path) -> None:
    program = tmp_path / "message.c"
    program.write_text(
        "#include <litmus.h>\n"
        "static atomic_int data, flag;\n"
        "void thread0(void) { atomic_store_explicit(&data, 7, memory_order_relaxed);\n"
        "    atomic_store_explicit(&flag, 1, memory_order_relaxed); }\n"
        "void thread1(void) { await(atomic_load_explicit(&flag, ORDER));\n"
        "    check(atomic_load_explicit(&data, memory_order_relaxed) == 7); }\n"
    )
    sc, rc11 = check(program, ["sc", "rc11"], ["ORDER=memory_order_relaxed"])
    assert sc.ok
    assert sc.executions == 1
    assert (rc11.ok, rc11.line) == (False, 6)
    assert [(e.thread, e.kind, e.value, e.from_) for e in rc11.events] == [
        (0, "store", 7, None),
        (0, "store", 1, None),
        (1, "load", 1, 1),
        (1, "load", 0, None),
    ]


@pytest.mark.slow
def test_a_wait_that_no_store_ends_is_wrong(tmp_path: Path) -> None:
    program = tmp_path / "wait.c"
    program.write_text(
        "#include <litmus.h>\n"
        "static atomic_int flag;\n"
        "void thread0(void) { atomic_store(&flag, 1); }\n"
        "void thread1(void) { await(atomic_load(&flag) == 2); }\n"
    )
    [verdict] = check(program, ["sc"])
    assert verdict.wrong == "a thread waits for good"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("int x = ;", "bad.c does not compile"),
        (
            "static atomic_int x; static int n;\n"
            "void thread0(void) { n++; atomic_store(&x, n); atomic_store(&x, 0); }\n"
            "void thread1(void) { }",
            "does something else each time it runs",
        ),
        (
            "static atomic_int x;\n"
            "void thread0(void) { for (;;) atomic_store(&x, 1); }\n"
            "void thread1(void) { }",
            "more than 192 steps in an execution; bound the loops",
        ),
    ],
)
def test_a_program_that_cannot_be_explored_is_one_line(
    tmp_path: Path, text: str, said: str
) -> None:
    program = tmp_path / "bad.c"
    program.write_text(f"#include <litmus.h>\n{text}\n")
    with pytest.raises(BadInput, match=said) as error:
        check(program, ["sc"])
    assert "\n" not in str(error.value)


def test_without_a_compiler_the_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    program = tmp_path / "any.c"
    program.write_text("")
    with pytest.raises(BadInput, match="no-such-compiler: no C compiler found"):
        check(program, ["sc"])
