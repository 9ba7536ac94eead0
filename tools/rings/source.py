"""A user's ring: a C file that is compiled, a shared object, or a Python class."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import coalesced
from coalesced.tools.errors import BadInput

FUNCTIONS = ("size", "init", "push", "pop")
MORE_FUNCTIONS = ("push_many", "pop_many", "wait", "attach")
_FLAGS = ("-std=gnu11", "-O2", "-D_GNU_SOURCE", "-shared", "-fPIC", "-w")
_COMPILER_SECONDS = 60
_WRAPPED = "wrapped_ring_"
_SIGNATURES = {
    "size": ("size_t", "uint32_t entries"),
    "init": ("int", "void *memory, uint32_t entries"),
    "push": ("int", "void *memory, const struct user_ring_entry *entry"),
    "pop": ("int", "void *memory, struct user_ring_entry *entry"),
    "push_many": ("int", "void *memory, const struct user_ring_entry *entries, uint32_t count"),
    "pop_many": ("int", "void *memory, struct user_ring_entry *entries, uint32_t most"),
    "wait": ("int", "void *memory, int milliseconds"),
    "attach": ("int", "void *memory, int producer"),
}


@dataclass(frozen=True, eq=False)
class Source:
    """A ring that can be loaded: a shared object and its functions' prefix, or a Python class.

    Compared by identity: the file may have changed between two of them.
    """

    option: str  # as the user wrote it, for messages
    library: str = ""
    prefix: str = ""
    file: str = ""
    class_name: str = ""

    def wrong(self, what: str) -> BadInput:
        """The error about this ring."""
        return BadInput(f"{self.option}: {what}")


def load(text: str) -> Source:
    """The ring of `--ring TEXT`, compiled if it is C. Raises BadInput."""
    option = f"--ring {text}"
    path, colon, name = text.rpartition(":")
    if colon and path.endswith(".py") and name.isidentifier():
        _check_readable(option, path)
        return Source(option, file=path, class_name=name)
    if text.endswith(".py"):
        raise BadInput(f"{option}: expected FILE.py:CLASS")
    if not text.endswith((".c", ".h", ".so")):
        raise BadInput(
            f"{option}: expected a C file (.c, .h), a shared object (.so) or FILE.py:CLASS"
        )
    _check_readable(option, text)
    if text.endswith(".so"):
        return Source(option, os.path.abspath(text), "ring_")
    return _compiled(option, text)


def _check_readable(option: str, path: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise BadInput(f"{option}: {error.strerror}") from error


def _compiled(option: str, path: str) -> Source:
    """The file with an exported wrapper for each function in it, in memory that has no name."""
    include = f'#include "user_ring.h"\n#include "{os.path.abspath(path)}"\n'
    with tempfile.TemporaryDirectory(prefix="coalesced-ring-") as folder:
        source, library = Path(folder, "wrapped.c"), Path(folder, "wrapped.so")
        source.write_text(include)
        _compile(option, path, [str(source), "-fsyntax-only"])
        plain = _compile(option, path, [str(source), "-E", "-P"])
        found = [name for name in _SIGNATURES if f"ring_{name}(" in plain.replace(" (", "(")]
        for name in FUNCTIONS:
            if name not in found:
                raise BadInput(f"{option}: expected a function ring_{name}, found none")
        source.write_text(include + "".join(map(_wrapper, found)))
        _compile(option, path, [str(source), "-o", str(library)])
        fd = os.memfd_create("ring", os.MFD_CLOEXEC)
        os.write(fd, library.read_bytes())
    return Source(option, f"/proc/self/fd/{fd}", _WRAPPED)


def _wrapper(name: str) -> str:
    kind, parameters = _SIGNATURES[name]
    arguments = ", ".join(each.split()[-1].lstrip("*") for each in parameters.split(","))
    return (
        f'__attribute__((visibility("default"))) {kind} {_WRAPPED}{name}({parameters})\n'
        f"{{ return ring_{name}({arguments}); }}\n"
    )


def _compile(option: str, path: str, arguments: list[str]) -> str:
    """The compiler's output. Raises BadInput with its first error."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    folders = [f"-I{coalesced.get_include()}", f"-I{os.path.dirname(os.path.abspath(path))}"]
    try:
        done = subprocess.run(
            [*compiler, *_FLAGS, *folders, *arguments],
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_COMPILER_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        said = getattr(error, "strerror", None) or f"no end within {_COMPILER_SECONDS} s"
        raise BadInput(
            f"{option}: cannot run the C compiler {' '.join(compiler)} (set CC): {said}"
        ) from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error: " in line] or ["no message"]
        raise BadInput(f"{option}: it does not compile: {lines[0].strip()}")
    return done.stdout
