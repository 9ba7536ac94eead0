"""ring.h and shared_ring.h in programs that are C alone, beside Python and beside each other."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from coalesced import PeerDied, Ring

EXAMPLE = Path(__file__).parents[3] / "examples" / "ring-in-c"
COUNT = 100_000
TOTAL = sum(number * number for number in range(COUNT))
LIMIT = 60.0  # seconds
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not shutil.which("make") or not shutil.which("cc"), reason="no make, or no C compiler"
    ),
]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs, built without a warning."""
    folder = tmp_path_factory.mktemp("ring-in-c")
    for name in ("Makefile", "two_processes.c", "peer.c"):
        shutil.copy(EXAMPLE / name, folder)
    flags = "CFLAGS=-O2 -Wall -Wextra -Werror -Wconversion"
    subprocess.run(["make", "-s", f"PYTHON={sys.executable}", flags], cwd=folder, check=True)
    return folder


def peer(programs: Path, role: str, ring: Ring) -> subprocess.Popen[str]:
    """The program as one side of a ring."""
    return subprocess.Popen(
        [programs / "peer", role, *map(str, ring.fds)],
        pass_fds=ring.fds,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_in_c(programs: Path) -> None:
    done = subprocess.run(
        [programs / "two_processes"], capture_output=True, text=True, check=True, timeout=LIMIT
    )
    assert done.stdout == f"{COUNT} numbers through 169 slots, sum {TOTAL}\n"


def test_python_consumes_what_c_produces(programs: Path) -> None:
    with Ring() as ring, ring.consumer() as consumer, peer(programs, "produce", ring) as child:
        batches = [batch.copy() for batch in consumer]
        assert child.wait(LIMIT) == 0
    entries = np.concatenate(batches)
    assert np.array_equal(entries["phys_addr"], np.arange(COUNT))
    assert int(entries["data"].sum()) == TOTAL


def test_c_consumes_what_python_produces(programs: Path) -> None:
    with Ring() as ring, peer(programs, "consume", ring) as child:
        with ring.producer() as producer:
            numbers = np.arange(COUNT)
            producer.append_many(numbers, 8, numbers * numbers, timeout=LIMIT)
        assert child.communicate(timeout=LIMIT)[0] == f"{COUNT} numbers, sum {TOTAL}\n"


def test_c_consumes_what_c_produces(programs: Path) -> None:
    with (
        Ring() as ring,
        peer(programs, "consume", ring) as consumer,
        peer(programs, "produce", ring) as producer,
    ):
        assert consumer.communicate(timeout=LIMIT)[0] == f"{COUNT} numbers, sum {TOTAL}\n"
        assert producer.wait(LIMIT) == 0


def test_each_hears_of_the_other_s_death(programs: Path) -> None:
    with Ring() as ring, peer(programs, "produce", ring) as child, ring.consumer() as consumer:
        assert len(consumer.take(LIMIT))
        child.kill()
        with pytest.raises(PeerDied, match=f"process {child.pid} has ended"):
            sum(len(batch) for batch in consumer)
    with Ring() as ring:
        command = [
            sys.executable,
            "-c",
            "import os, signal\nfrom coalesced import Ring\n"
            f"producer = Ring.from_fds{ring.fds}.producer()\n"
            "producer.append(1, 1, 1)\n"
            "os.kill(os.getpid(), signal.SIGKILL)",
        ]
        dying = subprocess.run(command, pass_fds=ring.fds, check=False)
        assert dying.returncode == -signal.SIGKILL
        with peer(programs, "consume", ring) as child:
            assert "process has ended" in child.communicate(timeout=LIMIT)[1]
            assert child.returncode == 1
