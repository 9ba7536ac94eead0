"""A second process of a benchmark: whatever comes while it starts, none is left."""

from __future__ import annotations

import os
import signal
from contextlib import closing, suppress
from multiprocessing import util
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from coalesced.tools.bench.spawn import Ended, NotReady, Spawned
from helpers.descriptors import descriptors
from helpers.tiers import every, some_heavy

if TYPE_CHECKING:
    from coalesced.tools.bench.spawn import Control


def _ready(control: Control) -> None:
    control.send("ready")
    control.recv()


def _ends(_control: Control) -> None:
    pass


def _killed(_control: Control) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@some_heavy(
    "number",
    every([signal.SIGINT, signal.SIGTERM, signal.SIGHUP]),
    lambda number: number == signal.SIGTERM,
)
def test_a_signal_during_the_start_leaves_no_process(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it goes on, and finds that what it was to use is gone."""
    Spawned(_ready).close()  # whatever is opened once and for all
    children, before = psutil.Process().children(), descriptors()
    start = BaseProcess.start

    def interrupted(process: BaseProcess) -> None:
        start(process)
        os.kill(os.getpid(), number)

    def end(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(BaseProcess, "start", interrupted)
    handler = signal.signal(number, end)
    try:
        with pytest.raises(KeyboardInterrupt):
            Spawned(_ready)
    finally:
        signal.signal(number, handler)
    assert psutil.Process().children() == children
    assert descriptors() - before == set()


def test_a_peer_that_ends_during_the_start_of_another(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The other one is sent all that it needs, so that it ends without a traceback."""
    Spawned(_ready).close()  # whatever is started once and for all
    children = psutil.Process().children()
    peer = Spawned(_ready)
    (victim,) = (child for child in psutil.Process().children() if child not in children)
    launch, started = util.spawnv_passfds, []

    def kills_the_peer(*arguments: Any) -> int:
        started.append(launch(*arguments))
        victim.kill()
        os.waitid(os.P_PID, victim.pid, os.WEXITED | os.WNOWAIT)
        return started[-1]

    monkeypatch.setattr(util, "spawnv_passfds", kills_the_peer)
    with closing(peer), pytest.raises(Ended, match=f"process {victim.pid} ended$"):
        Spawned(_ready)
    with suppress(ChildProcessError):
        os.waitpid(started[-1], 0)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("target", "error"), [(_ends, NotReady), (_killed, Ended)])
def test_a_process_that_ends_before_it_is_ready(target: object, error: type[Exception]) -> None:
    assert callable(target)
    with pytest.raises(error, match=r"the benchmark's process \d+ ended"):
        Spawned(target)


def test_a_process_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of the system, and nothing of it open."""

    def refused(_process: BaseProcess) -> None:
        raise BlockingIOError("no more processes")

    before = descriptors()
    monkeypatch.setattr(BaseProcess, "start", refused)
    with pytest.raises(BlockingIOError, match="no more processes"):
        Spawned(_ready)
    assert descriptors() - before == set()
