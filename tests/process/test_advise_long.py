"""Recordings that are far longer than the memory that judges them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.long_recording import repeated

IPXE = Path(__file__).parents[1] / "data" / "kvm-ipxe-e1000.perf.txt.xz"
# What one repetition has.
EVENTS, WRITES, EXITS, ADVISED = 424_712, 210_650, 104_051, 94_053
# Runs the program, and prints the most memory that it had on stderr.
MEASURED = """
import sys
from coalesced.tools.main import main
try:
    main()
finally:
    status = open("/proc/self/status").read()
    print(status.split("VmHWM:")[1].split()[0], file=sys.stderr)
"""


@pytest.fixture
def long(tmp_path: Path) -> Iterator[Path]:
    """A path for a large file."""
    path = tmp_path / "long.txt"
    yield path
    path.unlink()


@pytest.mark.heavy
@pytest.mark.parametrize(("size", "mib"), [(120_000_000, 160), (1_100_000_000, 300)])
def test_a_long_recording_is_judged_in_little_memory(long: Path, size: int, mib: int) -> None:
    """A real recording, repeated: its figures are multiples of those of one."""
    times = repeated(IPXE, long, size)
    command = ["advise", str(long), "--exit-ns", "1000", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *command], capture_output=True, text=True, check=True
    )
    assert int(done.stderr) < mib << 10
    found = json.loads(done.stdout)
    assert found["events"] == times * EVENTS
    assert found["agreement"]["checked"] == found["agreement"]["agreeing"] == times * WRITES
    assert found["exits_predicted"] == {"now": times * EXITS, "advised": times * ADVISED}
    assert found["ring_pages"]["1"] == times * ADVISED
