"""Random numbers, and a Ctrl-C while numpy.random is imported for the first of them."""

from __future__ import annotations

import subprocess
import sys

from coalesced.tools.chance import generator

PRESSED = """\
import os, signal
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as the program sets it: no other thread takes the signal
from collections.abc import Sequence
from coalesced.tools.chance import generator

def press(_class):
    os.kill(os.getpid(), signal.SIGINT)
    pressed.append(1)

pressed = []
Sequence.register = press
try:
    generator(1)
except KeyboardInterrupt:
    print("heard", bool(pressed))
"""


def test_ctrl_c_while_numpy_random_is_imported_is_heard() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRESSED], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("heard True\n", "")


def test_equal_seeds_give_equal_numbers() -> None:
    first, again, other = (generator(seed).integers(1 << 32, size=4).tolist() for seed in (1, 1, 2))
    assert first == again != other
