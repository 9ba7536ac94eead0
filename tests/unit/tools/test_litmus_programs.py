"""`explore`, and `coalesced litmus FILE`: programs of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from coalesced.tools.errors import BadInput
from coalesced.tools.litmus.explore import CHECKER, explore
from coalesced.tools.litmus.models import MODELS

TWO = "void thread0(void) { } void thread1(void) { }"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shared", "takeover", "posted", "own", "rings"])
def test_no_execution_of_a_program_goes_wrong_as_it_is_shipped(name: str) -> None:
    verdicts = explore(CHECKER / "programs" / f"{name}.c", MODELS, ["ENTRIES=1"])
    assert [verdict.model for verdict in verdicts if not verdict.ok] == []
    assert len(verdicts) == len(MODELS)


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
    sc, rc11 = explore(program, ["sc", "rc11"], ["ORDER=memory_order_relaxed"])
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
    [verdict] = explore(program, ["sc"])
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
        (
            "static _Atomic double x;\n"
            "void thread0(void) { atomic_store(&x, 1.5); }\n"
            "void thread1(void) { }",
            "integers and pointers only",
        ),
        (
            "static long a[2]; static _Atomic(long *) x = a;\n"
            "void thread0(void) { atomic_fetch_add(&x, 1); }\n"
            "void thread1(void) { }",
            "no arithmetic on atomic pointers: compilers differ",
        ),
        (
            "static atomic_int x; static volatile int n;\n"
            "void thread0(void) { atomic_store(&x, 1); for (;;) n++; }\n"
            "void thread1(void) { }",
            "bad.c:3: &x: thread0 makes no further step in 2 s of CPU time; bound the loops",
        ),
        (
            f"static volatile int n; void finish(void) {{ for (;;) n++; }} {TWO}",
            "^finish makes no step in 2 s of CPU time; bound the loops",
        ),
        ("void thread0(void) { }", "expected functions thread0 and thread1 at least"),
        (f"{TWO} void thread3(void) {{ }}", "thread3: expected thread0, thread1 and so on to"),
        (
            f"{TWO} void thread2(void) {{ }} void thread3(void) {{ }} void thread4(void) {{ }}",
            "thread4: expected thread0, thread1 and so on to thread3 at most",
        ),
        (
            "void thread0(void) { choose(0); } void thread1(void) { }",
            r"choose\(0\): expected a number above 0, in a thread",
        ),
        (f"void begin(void) {{ choose(2); }} {TWO}", r"choose\(2\): expected a number above 0"),
        (f"void begin(void) {{ check(1 == 2); }} {TWO}", "not so in `begin`: 1 == 2"),
        (f"void finish(void) {{ await(0); }} {TWO}", "await: expected it in a thread only"),
        (
            "#include <stdlib.h>\nvoid thread0(void) { exit(0); } void thread1(void) { }",
            "the program ended by itself: exit status 0",
        ),
        (
            "void thread0(void) { *(volatile int *)0 = 1; } void thread1(void) { }",
            "the program ended by itself: Segmentation fault",
        ),
    ],
)
def test_a_program_that_cannot_be_explored_is_one_line(
    tmp_path: Path, text: str, said: str
) -> None:
    program = tmp_path / "bad.c"
    program.write_text(f"#include <litmus.h>\n{text}\n")
    with pytest.raises(BadInput, match=said) as error:
        explore(program, ["sc"])
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_what_a_program_prints_is_no_result(tmp_path: Path) -> None:
    program = tmp_path / "prints.c"
    program.write_text(
        "#include <litmus.h>\n#include <stdio.h>\nstatic atomic_int x;\n"
        'void thread0(void) { printf("{ error: "); atomic_store(&x, 1); }\n'
        'void thread1(void) { puts("}"); fflush(stdout); check(atomic_load(&x) < 2); }\n'
    )
    [verdict] = explore(program, ["sc"])
    assert (verdict.ok, verdict.executions) == (True, 2)


def test_without_a_compiler_the_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    program = tmp_path / "any.c"
    program.write_text("")
    with pytest.raises(BadInput, match="no-such-compiler: no C compiler found"):
        explore(program, ["sc"])
