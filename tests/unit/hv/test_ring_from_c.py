"""ring.h in a program that is C alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[3] / "examples" / "ring-in-c"


@pytest.mark.slow
@pytest.mark.skipif(
    not shutil.which("make") or not shutil.which("cc"), reason="no make, or no C compiler"
)
def test_the_example_in_c_builds_without_a_warning_and_runs(tmp_path: Path) -> None:
    for name in ("Makefile", "two_processes.c"):
        shutil.copy(EXAMPLE / name, tmp_path)
    flags = "CFLAGS=-O2 -Wall -Wextra -Werror -Wconversion"
    subprocess.run(["make", "-s", f"PYTHON={sys.executable}", flags], cwd=tmp_path, check=True)
    done = subprocess.run(
        [tmp_path / "two_processes"], capture_output=True, text=True, check=True, timeout=60
    )
    total = sum(number * number for number in range(100_000))
    assert done.stdout == f"100000 numbers through 169 slots, sum {total}\n"
