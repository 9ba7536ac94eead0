"""The benchmarks themselves, as short as they get."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.kvm_sides import needs_kvm

from tools.bench import exits, host, kvm, report, ring, vga

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _guests_find_this_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_ring() -> None:
    before = os.sched_getaffinity(0)
    steps = [0]
    sizes = ring.Sizes(repetitions=1, batched=20_000, each=5_000, peers=50)
    result = ring.measure(2, sizes, lambda: steps.append(steps.pop() + 1))
    assert result.batched.low > 0
    assert result.each.low > 0
    assert result.batch >= 1
    assert {"multiprocessing.Pipe", "multiprocessing.Queue"} <= set(result.peers)
    assert set(result.floors) == {ring.C_RING, ring.C_RING_EACH, ring.BARE_PIPE}
    assert 0 < steps[0] <= ring.steps(sizes)
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize("placement", host.placements())
def test_exit(placement: str) -> None:
    before = os.sched_getaffinity(0)
    sizes = exits.Sizes(repetitions=1, sleeping=50, spinning=50)
    result = exits.measure(placement, sizes, lambda: None)
    assert result.floor.low > 0
    assert set(result.policies) == set(result.percentiles) == set(exits.POLICIES)
    assert all(middle <= late for middle, late in result.percentiles.values())
    assert os.sched_getaffinity(0) == before


def test_vga() -> None:
    sizes = vga.Sizes(repetitions=1, writes=5_000, exits=200, on_kvm=200)
    result = vga.measure((1, 2), "block", sizes, lambda: None)
    assert set(result.coalesced) == {1, 2}
    assert result.exit.low > 0
    assert result.direct.low > 0


@needs_kvm
def test_vga_on_kvm() -> None:
    sizes = vga.Sizes(repetitions=1, writes=5_000, exits=200, on_kvm=2_000)
    steps = [0]

    def step() -> None:
        steps[0] += 1

    result = vga.measure((1,), "block", sizes, step, on_kvm=True)
    assert steps[0] == vga.steps((1,), sizes, on_kvm=True)
    assert result.on_kvm is not None
    assert {name: figure.low > 0 for name, figure in result.on_kvm.items()} == dict.fromkeys(
        kvm.NAMES, True
    )
    values = report.vga(result).values["kvm"]
    assert isinstance(values, dict)
    assert values["floor_ratio"] > 0


@pytest.mark.parametrize("which", ["ring", "exit", "vga"])
def test_ctrl_c_ends_it_quietly_and_leaves_nothing(which: str) -> None:
    command = [sys.executable, "-c", "from tools.main import main; main()", "bench", which]
    running = subprocess.Popen(
        command,
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        time.sleep(1.5)
        os.killpg(running.pid, signal.SIGINT)
        _, said = running.communicate(timeout=20)
    finally:
        running.kill()
    assert running.returncode == 130
    assert "Traceback" not in said
    assert _left(running.pid) == []


def _left(session: int) -> list[str]:
    """Processes of a session, after a moment for those that end by themselves."""
    for _ in range(50):
        left = [path.name for path in Path("/proc").glob("[0-9]*") if _session(path) == session]
        if not left:
            break
        time.sleep(0.1)
    return left


def _session(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[3])
    except OSError:
        return -1
