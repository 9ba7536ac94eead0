"""Every execution of a program in C under a memory model.

A program's threads are functions in C over any header with C11 atomics. The explorer (the folder
checker/) is compiled with it: its <stdatomic.h> makes each atomic access one step, and it goes
through every execution that the model allows, running the threads anew for each.
"""

from __future__ import annotations

import json
import linecache
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from coalesced import get_include
from coalesced.tools import rings
from coalesced.tools.errors import BadInput
from coalesced.tools.litmus import kept
from coalesced.tools.litmus.models import MODELS

CHECKER = Path(__file__).parent / "checker"
BROKEN_RINGS = Path(rings.__file__).parent / "broken"
_SOURCES = ("explore.c", "program.c", "relations.c", "weak.c")
_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wno-unused-value", "-D_GNU_SOURCE")
_EXPLORER_FLAGS = ("-c", "-O3")
_lock = threading.Lock()
_locks: dict[tuple[Path, tuple[str, ...]], threading.Lock] = {}
_running: set[subprocess.Popen[str]] = set()


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
    source: str  # the text of the line


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
    events: tuple[Event, ...]  # of the wrong execution, the steps that the failed check rests on


def explore(
    source: str | Path, models: Sequence[str] = MODELS, defines: Sequence[str] = ()
) -> list[Verdict]:
    """Run a program in C through every execution that each model allows.

    `source` defines `thread0` to `thread3` (two at least); `models` are among sc, tso, rc11 and
    weak; `defines` are macros, NAME or NAME=VALUE. Raises BadInput without a C compiler, for an
    unknown model, for a program that does not compile, and for one that cannot be explored.
    """
    for model in models:
        if model not in MODELS:
            raise BadInput(f"model {model}: expected one of {', '.join(MODELS)}")
    with tempfile.TemporaryDirectory(prefix="coalesced-litmus-") as folder:
        program = compiled(Path(source), defines, Path(folder, "program"))
        return [explored(program, model) for model in models]


def compiled(source: Path, defines: Sequence[str], program: Path) -> Path:
    """Compile a program with the explorer into an executable, `program`."""
    if not source.is_file():
        raise BadInput(f"{source}: no such file")
    macros = [f"-D{define}" for define in defines]
    includes = [f"-I{folder}" for folder in (CHECKER, get_include(), BROKEN_RINGS)]
    _compile([*macros, *includes, str(source), *_explorer(), "-o", str(program)], source)
    return program


@cache
def _built(source: Path, defines: tuple[str, ...]) -> Path:
    folders = (Path(get_include()), BROKEN_RINGS)
    headers = [header for folder in folders for header in sorted(folder.glob("*.h"))]
    # The name of the explorer's folder says what that was made from. A program names its files.
    names = (_explorer()[0], str(source), str(CHECKER), *map(str, folders))
    key = kept.key_of((*names, *defines), [source, *headers])
    return kept.kept(key, lambda to: _make_program(source, defines, to)) / "program"


def _make_program(source: Path, defines: tuple[str, ...], folder: Path) -> None:
    compiled(source, defines, folder / "program")


def built(source: Path, defines: tuple[str, ...]) -> Path:
    """The executable of a program of the product's, compiled once and kept."""
    with _lock:
        _explorer()
        building = _locks.setdefault((source, defines), threading.Lock())
    with building:
        return _built(source, defines)


def explored(program: Path, model: str) -> Verdict:
    """The result of a compiled program under a model."""
    # A process group of its own: Ctrl-C on the terminal is for this process, which calls stop().
    process = subprocess.Popen(
        [program, model],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        process_group=0,
    )
    _running.add(process)
    try:
        out, err = process.communicate()
    finally:
        _running.discard(process)
        process.kill()
    if process.returncode or not out:
        _, refused, said = err.rpartition("error: ")
        if refused:
            raise BadInput(said.strip())
        code = process.returncode
        how = signal.strsignal(-code) if code < 0 else f"exit status {code}"
        raise BadInput(f"the program ended by itself: {how}")
    found = json.loads(out)
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


def stop() -> None:
    """End the programs that other threads of this process explore."""
    for process in tuple(_running):
        process.kill()


def _event(found: dict[str, object]) -> Event:
    found["from_"] = found.pop("from")
    found["source"] = linecache.getline(str(found["file"]), int(str(found["line"]))).strip()
    return Event(**found)  # type: ignore[arg-type]


@cache
def _explorer() -> tuple[str, ...]:
    """The object files of the explorer."""
    compiler = _compiler()
    found = os.stat(compiler)
    words = (compiler, str(found.st_size), str(found.st_mtime_ns), *_FLAGS, *_EXPLORER_FLAGS)
    folder = kept.kept(kept.key_of(words, sorted(CHECKER.glob("*.[ch]"))), _make_explorer)
    return tuple(str((folder / name).with_suffix(".o")) for name in _SOURCES)


def _make_explorer(folder: Path) -> None:
    sources = [str(CHECKER / name) for name in _SOURCES]
    command = [_compiler(), *_FLAGS, *_EXPLORER_FLAGS, f"-I{CHECKER}", *sources]
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=False, cwd=folder
    )
    if done.returncode:
        raise BadInput(f"{CHECKER} does not compile: {_first_error(done.stderr)}")


def _compile(arguments: Sequence[str], source: Path) -> None:
    command = [_compiler(), *_FLAGS, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise BadInput(f"{source} does not compile: {_first_error(done.stderr)}")


def _first_error(said: str) -> str:
    # The last two are the linker's; a path may have these words, too.
    words = ("error: ", "undefined reference", "cannot find")
    lines = (line for line in said.splitlines() if any(word in line for word in words))
    return next(lines, said.strip())


def _compiler() -> str:
    name = os.environ.get("CC") or "cc"
    compiler = shutil.which(name)
    if not compiler:
        raise BadInput(f"{name}: no C compiler found, which litmus needs; install gcc or clang")
    return compiler
