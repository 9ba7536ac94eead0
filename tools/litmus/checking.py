"""Checking a program in C: its threads over the real headers, compiled with the explorer and run.

The explorer (the folder checker/) runs the threads themselves, with a <stdatomic.h> that makes each
atomic access one step, and goes through every execution that the memory model allows.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from coalesced import get_include
from coalesced.tools.errors import BadInput

MODELS = ("sc", "tso", "rc11", "weak")
CHECKER = Path(__file__).parent / "checker"
_SOURCES = ("explore.c", "program.c", "relations.c", "weak.c")
_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wno-unused-value", "-D_GNU_SOURCE")


@dataclass(frozen=True)
class Event:
    """One step of an execution. The fields are the keys of the JSON object."""

    thread: int
    kind: str  # load, store, fence or choose
    order: str
    value: int
    from_: int | None  # of a load: the number of the store that it finds; None: the initial value
    file: str
    line: int
    text: str  # the access, as the source names it


@dataclass(frozen=True)
class Verdict:
    """The executions of a program under a model. The fields are the keys of the JSON object."""

    model: str
    ok: bool
    executions: int  # up to the first wrong one
    stopped: int  # executions in which an await was left for a later store
    wrong: str | None  # the check that fails, or that a thread waits for good
    file: str  # where that check is
    line: int
    events: tuple[Event, ...]  # the execution that is wrong


def check(source: Path, models: Sequence[str], defines: Sequence[str] = ()) -> list[Verdict]:
    """Every execution of a program in C under each model.

    `defines` are macros, NAME or NAME=VALUE. Raises BadInput without a C compiler, for a program
    that does not compile, and for one that the explorer cannot run.
    """
    with compiled(source, defines) as program:
        return [explored(program, model) for model in models]


@contextmanager
def compiled(source: Path, defines: Sequence[str] = ()) -> Iterator[Path]:
    """The program with the explorer, as an executable that exists within the block."""
    with tempfile.TemporaryDirectory(prefix="coalesced-litmus-") as folder:
        program = Path(folder) / "program"
        includes = [f"-I{CHECKER}", f"-I{get_include()}"]
        macros = [f"-D{define}" for define in defines]
        if not source.is_file():
            raise BadInput(f"{source}: no such file")
        _compile([*macros, *includes, str(source), *explorer(), "-o", str(program)], source)
        yield program


def explored(program: Path, model: str) -> Verdict:
    """What a compiled program finds under a model."""
    done = subprocess.run([program, model], capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip() or f"the program ended with status {done.returncode}"
        raise BadInput(said.removeprefix("error: "))
    found = json.loads(done.stdout)
    return Verdict(
        model=model,
        ok=found["wrong"] is None,
        executions=found["executions"],
        stopped=found["stopped"],
        wrong=found["wrong"],
        file=found["file"],
        line=found["line"],
        events=tuple(_event(each) for each in found["events"]),
    )


def _event(found: dict[str, object]) -> Event:
    found["from_"] = found.pop("from")
    return Event(**found)  # type: ignore[arg-type]


@cache
def explorer() -> tuple[str, ...]:
    """The object files of the explorer, compiled once in a process."""
    folder = tempfile.mkdtemp(prefix="coalesced-explorer-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    objects = tuple(str(Path(folder, f"{name}.o")) for name in _SOURCES)
    for name, built in zip(_SOURCES, objects, strict=True):
        source = CHECKER / name
        _compile(["-c", "-O3", f"-I{CHECKER}", str(source), "-o", built], source)
    return objects


def _compile(arguments: Sequence[str], source: Path) -> None:
    compiler = os.environ.get("CC") or "cc"
    if not shutil.which(compiler):
        raise BadInput(f"{compiler}: no C compiler found, which a program in C needs; install gcc")
    command = [compiler, *_FLAGS, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        first = next((x for x in done.stderr.splitlines() if "error" in x or "undefined" in x), "")
        raise BadInput(f"{source} does not compile: {first or done.stderr.strip()}")
