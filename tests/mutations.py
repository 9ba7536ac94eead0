"""Break each rule of coalescing and of memory ordering on purpose: a test must fail by it.

    python tests/mutations.py            # every one; exit status 1 when a test does not notice
    python tests/mutations.py --table    # the table of tests/README.md

Each is tried on a copy of the tree; what is C is compiled anew there.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from mutation_list import MUTATIONS, Mutation

ROOT = Path(__file__).parents[1]
_COPIED = (
    "src",
    "hv",
    "devices",
    "vmm",
    "tools",
    "tests",
    "pyproject.toml",
    "setup.py",
    "README.md",
)
_LIMIT = 120  # seconds


def fails(mutation: Mutation, folder: Path) -> bool:
    """True when the test fails in a mutated copy of the tree below `folder`.

    Raises ValueError when the place to change is not there once, or the copy does not compile.
    """
    copy = folder / "tree"
    ignore = shutil.ignore_patterns("__pycache__", "*_cache", ".hypothesis")
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, symlinks=True, ignore=ignore)
        else:
            copy.mkdir(exist_ok=True)
            shutil.copy(source, copy / name)
    target = copy / mutation.file
    text = target.read_text()
    if text.count(mutation.old) != 1:
        raise ValueError(
            f"{mutation.file}: {mutation.old!r} is there {text.count(mutation.old)} times"
        )
    target.write_text(text.replace(mutation.old, mutation.new))
    if target.suffix in (".c", ".h"):
        _compile(copy)
    test, _, expression = mutation.test.partition(" -k ")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test]
    if expression:
        command += ["-k", expression]
    done = _run(command, copy)
    if done.returncode not in (0, 1):  # 1: tests ran, and one failed
        raise ValueError(f"{mutation.test}: {done.stdout}{done.stderr}")
    return done.returncode == 1


def _compile(copy: Path) -> None:
    """Build hv.core of the copy in place, its variant with injection points, and vmm.exits."""
    core, vmm, variants = copy / "hv" / "core", copy / "vmm", copy / "tools" / "stress" / "cores"
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
    flags = ["-std=c11", "-O1", "-fPIC", "-shared", "-fvisibility=hidden"]
    include = sysconfig.get_paths()["include"]
    command = [*compiler, *flags, "-DPy_LIMITED_API=0x030B0000", f"-I{include}", f"-I{core}"]
    for sources, target in (
        (sorted(core.glob("*.c")), core.with_suffix(".abi3.so")),
        ([variants / "injected.c"], variants / "injected.abi3.so"),
        (sorted(vmm.glob("*.c")), vmm / "exits.abi3.so"),
    ):
        done = _run([*command, *map(str, sources), "-o", str(target)], copy)
        if done.returncode:
            raise ValueError(done.stderr)


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_LIMIT,
        check=False,
    )


def table() -> str:
    """The table of tests/README.md."""
    lines = ["| rule | broken how | where | the test that fails |", "|---|---|---|---|"]
    for m in MUTATIONS:
        test = m.test.removeprefix("tests/").replace(" -k ", "::")
        lines.append(f"| {m.rule} | {m.how} | {m.file} | {test} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Try every mutation, or those whose rule holds one of the words; 1 when one goes unnoticed."""
    if arguments == ["--table"]:
        sys.stdout.write(table())
        return 0
    unnoticed = 0
    for mutation in MUTATIONS:
        if arguments and not any(word in mutation.rule for word in arguments):
            continue
        with tempfile.TemporaryDirectory() as folder:
            noticed = fails(mutation, Path(folder))
        unnoticed += not noticed
        print(f"{'fails' if noticed else 'PASSES'}: {mutation.test} ({mutation.how})", flush=True)
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
