"""A second opinion on x86-TSO: the protocols in Promela, with explicit store buffers, by spin."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from coalesced.tools.litmus.cases import Case, outcome
from coalesced.tools.litmus.steps import overruns_2009
from helpers.tiers import some_heavy

HERE = Path(__file__).parent
LIMIT = 100

pytestmark = pytest.mark.skipif(
    not (shutil.which("spin") and shutil.which("gcc")),
    reason="no spin or no gcc on this machine (on Debian: apt install spin gcc)",
)


def ring(slots: int, entries: int, start: int) -> dict[str, int]:
    """Definitions for ring.pml."""
    return {"SLOTS": slots, "ENTRIES": entries, "START": start, "WRAP": 2**32 % slots}


WRONG = [
    ("ring.pml", {**ring(6, 7, 5), "FULL_CHECK_2009": 1}, "full-check-2009"),
    ("wakeup.pml", {"ROUNDS": 2, "NO_WAKER_FENCE": 1, "NO_SLEEPER_FENCE": 1}, "wakeup-fence"),
    ("wakeup.pml", {"ROUNDS": 2, "NO_WAKER_FENCE": 1}, "waker-fence"),
    ("wakeup.pml", {"ROUNDS": 2, "NO_SLEEPER_FENCE": 1}, "sleeper-fence"),
]
RIGHT = [
    ("ring.pml", ring(3, 5, 0), None),
    ("ring.pml", ring(6, 7, 5), None),
    ("wakeup.pml", {"ROUNDS": 2}, None),
]


@some_heavy(
    "model, given, removed",
    [*RIGHT, *WRONG],
    lambda model, given, removed: (
        given.get("SLOTS") == 6 or (model == "wakeup.pml" and removed in (None, "waker-fence"))
    ),
)
def test_spin_agrees_with_the_explorer(
    model: str, given: dict[str, int], removed: str | None, tmp_path: Path
) -> None:
    """No error where every execution is legal under TSO, and one where some is not."""
    protocol = model.removesuffix(".pml")
    slots, entries = given.get("SLOTS", 3), given.get("ENTRIES", 5)
    ours = outcome(Case(protocol, removed, "tso", slots, entries))
    assert ours.as_expected
    assert errors(model, given, tmp_path) == (0 if ours.verdict.ok else 1)


def test_spin_does_not_blame_the_old_check_where_it_is_right(tmp_path: Path) -> None:
    """2**32 is a multiple of 4: in 4 slots the check of 2009 loses nothing."""
    assert not overruns_2009(4)
    assert errors("ring.pml", {**ring(4, 5, 3), "FULL_CHECK_2009": 1}, tmp_path) == 0


def errors(model: str, given: dict[str, int], folder: Path) -> int:
    """Errors that spin finds: 0 or 1, as it stops at the first."""
    defines = [f"-D{name}={value}" for name, value in given.items()]
    run(["spin", *defines, "-a", str(HERE / model)], folder)
    # -w: the verifier is spin's code, not ours.
    run(["gcc", "-w", "-O0", "-DSAFETY", "-DMEMLIM=1000", "-o", "pan", "pan.c"], folder)
    said = run(["./pan", "-m100000"], folder)
    assert "max search depth too small" not in said, said
    assert "Search not completed" not in said or "errors: 1" in said, said
    (line,) = [line for line in said.splitlines() if "errors:" in line]
    return int(line.rpartition("errors:")[2])


def run(command: list[str], folder: Path) -> str:
    """Run it to its end; what it said."""
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=LIMIT, cwd=folder
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout
