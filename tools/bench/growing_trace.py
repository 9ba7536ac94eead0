"""A recording of growing length: what an access of it costs to read and to replay."""

from __future__ import annotations

import math
import tempfile
import time
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Final

from coalesced.tools import traces
from coalesced.tools.bench.growing import Sizes, Subjects
from coalesced.tools.errors import BadInput
from coalesced.tools.runs.boards import DEFAULT_MACHINE
from coalesced.tools.runs.options import RunOptions
from coalesced.tools.runs.replay import replay
from coalesced.tools.traces.source import Limits, blocks
from coalesced.tools.traces.trace import Trace, read

READ, REPLAY, WHOLE = "read_ns", "replay_ns", "whole_ns"
PERIOD: Final = 10_000  # lines of Linux's boot, repeated: all lengths have the same mix
_LIMITS: Final = Limits(accesses=1 << 62, text=1 << 62)


def of_trace(lines: int, _sizes: Sizes, stack: ExitStack) -> Subjects:
    """The costs of a trace with a number of lines; `stack` removes its file."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="coalesced-")))
    path = folder / "trace"
    try:
        write(path, lines)
    except OSError as error:
        raise BadInput(f"trace of {lines:,} lines: {path}: {error.strerror}") from error
    recording = Recording(path)
    return {READ: recording.read, REPLAY: recording.replay, WHOLE: recording.whole}


def write(path: Path, lines: int) -> None:
    """Write a trace of `lines` lines, a multiple of PERIOD. Raises OSError."""
    boot = Path(traces.__file__).with_name(traces.RECORDED["boot"])
    recorded = b"".join(blocks(boot, Limits())).splitlines(keepends=True)
    period = b"".join(islice(recorded, PERIOD))
    with path.open("wb") as file:
        for _ in range(lines // PERIOD):
            file.write(period)


class Recording:
    """A trace that is read, then replayed; each cost in nanoseconds per access."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._trace: Trace | None = None  # a long one takes gigabytes: until it is replayed
        self._whole = math.nan

    def read(self) -> float:
        """To read the text."""
        began = time.monotonic_ns()
        self._trace = read(self._path, _LIMITS)
        return (time.monotonic_ns() - began) / len(self._trace.ops)

    def replay(self) -> float:
        """From the guest's first access to its last, of the trace that was read before."""
        assert self._trace is not None
        began = time.monotonic_ns()
        result = replay(self._trace, DEFAULT_MACHINE, RunOptions(), None, text=False)
        self._whole = (time.monotonic_ns() - began) / result.accesses
        self._trace = None
        return result.run.seconds * 1e9 / result.accesses

    def whole(self) -> float:
        """The same with the VM's start and end, and the comparison of all loads."""
        return self._whole
