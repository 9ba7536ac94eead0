"""Tests in herd's format for C (FILE.litmus), as programs for the explorer.

Threads P0 to P3 with `int` registers and `atomic_int*` parameters, initial values, and a condition
with exists, ~exists or forall. The explorer looks for an execution that reaches the condition of
exists, or misses that of forall.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from coalesced.tools.errors import BadInput

_THREAD = re.compile(r"\bP(\d)\s*\(([^)]*)\)\s*\{")
_CONDITION = re.compile(r"(~\s*exists|exists|forall)\s*(\(.*\))\s*\Z", re.DOTALL)
_COMMENT = re.compile(r"\(\*.*?\*\)|/\*.*?\*/|//[^\n]*", re.DOTALL)
_INITIAL = re.compile(r"(?:\batomic_int\s+)?\[?\b([A-Za-z_]\w*)\]?\s*=\s*(-?\d+)")
_PARAMETER = re.compile(r"\s*(?:volatile\s+)?(?:atomic_int|_Atomic\s+int)\s*\*\s*(\w+)\s*")
_REGISTER = re.compile(r"\bint\s+([A-Za-z_]\w*)")


class Litmus(NamedTuple):
    """A test, translated."""

    name: str
    quantifier: str  # exists, ~exists or forall
    code: str  # a program whose check fails where the condition is reached, or missed for forall

    @property
    def asks(self) -> bool:
        """Whether the condition is a question, so that neither answer is wrong."""
        return self.quantifier == "exists"

    def answer(self, *, failed: bool) -> str:
        """The verdict on the condition, from whether the program's check failed."""
        if self.quantifier == "forall":
            return "missed" if failed else "always met"
        return "reached" if failed else "never reached"


def read(file: Path) -> Litmus:
    """Read a test. Raises BadInput, which names the expected form."""
    try:
        return translated(file.read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file}: cannot be read: {error}") from None
    except ValueError as error:
        raise BadInput(f"{file}: {error}") from None


def translated(text: str) -> Litmus:
    """The test as a program. Raises ValueError for a text that is no such test."""
    text = _COMMENT.sub(" ", text)
    head = re.match(r"\s*C\s+(\S+)", text)
    condition = _CONDITION.search(text)
    if not head or not condition:
        raise ValueError("expected `C NAME` at the start and exists, ~exists or forall at the end")
    threads = list(_threads(text[: condition.start()]))
    if not 2 <= len(threads) <= 4 or [number for number, *_ in threads] != list(
        range(len(threads))
    ):
        raise ValueError("expected the threads P0 and P1, and at most P2 and P3")
    first = _THREAD.search(text)
    places = sorted({place for _, parameters, _ in threads for place in parameters})
    initial = _INITIAL.findall(text[head.end() : first.start() if first else 0])
    if unknown := [place for place, _ in initial if place not in places]:
        raise ValueError(f"{unknown[0]} has an initial value, but no thread takes it")
    quantifier = condition[1].replace(" ", "")
    holds = _expression(condition[2], places)
    code = [
        "#include <litmus.h>",
        *(f"static atomic_int v_{place};" for place in places),
        "void begin(void) {",
        *(f"    atomic_init(&v_{place}, {value});" for place, value in initial),
        "}",
        *(_thread(*thread) for thread in threads),
        f"void finish(void) {{ check({holds if quantifier == 'forall' else f'!({holds})'}); }}",
    ]
    return Litmus(head[1], quantifier, "\n".join(code) + "\n")


def _threads(text: str) -> list[tuple[int, list[str], str]]:
    found = []
    for start in _THREAD.finditer(text):
        depth, at = 1, start.end()
        while depth and at < len(text):
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            at += 1
        if depth:
            raise ValueError(f"P{start[1]} has no end")
        parameters = [_PARAMETER.fullmatch(each) for each in start[2].split(",") if each.strip()]
        if not all(parameters):
            raise ValueError(f"P{start[1]} ({start[2]}): expected parameters such as atomic_int* x")
        names = [each[1] for each in parameters if each]
        found.append((int(start[1]), names, text[start.end() : at - 1]))
    return found


def _thread(number: int, places: list[str], body: str) -> str:
    registers = list(dict.fromkeys(_REGISTER.findall(body)))
    body = re.sub(r"\bint\s+(?=[A-Za-z_])", "", body)
    for register in registers:
        body = re.sub(rf"\b{register}\b", f"P{number}_{register}", body)
    return "\n".join(
        [
            *(f"static int P{number}_{register};" for register in registers),
            f"void thread{number}(void) {{",
            *(f"    P{number}_{register} = 0;" for register in registers),
            *(f"    atomic_int *{place} = &v_{place};" for place in places),
            body.strip("\n"),
            "}",
        ]
    )


def _expression(condition: str, places: list[str]) -> str:
    text = condition.replace("/\\", "&&").replace("\\/", "||").replace("~", "!")
    text = re.sub(r"(?<![=!<>])=(?!=)", "==", text)
    text = re.sub(r"\b(\d):(\w+)", r"P\1_\2", text)
    for place in places:
        text = re.sub(rf"\[?\b{place}\b\]?", f"atomic_load(&v_{place})", text)
    return text
