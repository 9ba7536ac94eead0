"""The events of a recording in a file: read in parts, from either end, until it is interrupted."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from coalesced.hv.errors import HostError
from coalesced.tools.advise import passes
from coalesced.tools.advise.spool import RECORD, Spool, array_of
from helpers.vmm_cli import until

EVENTS = 1000


@pytest.fixture
def spool() -> Spool:
    """Events whose lines count from 0, read three at a time."""
    made = Spool(part=3)
    records = np.zeros(EVENTS, RECORD)
    records["line"] = np.arange(EVENTS)
    made.append(records[:400])
    made.append(records[400:])
    return made


def test_parts_hold_all_events_from_either_end(spool: Spool) -> None:
    forward = [(start, part["line"].tolist()) for start, part in spool.parts()]
    assert [line for _, lines in forward for line in lines] == list(range(EVENTS))
    assert all(lines[0] == start for start, lines in forward)
    backward = [(start, part["line"].tolist()) for start, part in spool.parts(backward=True)]
    assert backward == forward[::-1]


def test_a_correction_changes_the_traits_of_one_event(spool: Spool) -> None:
    spool.correct(np.array([998, passes.EXITS], np.int64).tobytes())
    traits = [each for _, part in spool.parts() for each in part["traits"].tolist()]
    assert [(n, each) for n, each in enumerate(traits) if each] == [(998, passes.EXITS)]


def test_a_pass_that_is_interrupted_ends_the_other_one(spool: Spool) -> None:
    """Which is at work meanwhile."""
    begun, main = threading.Event(), threading.get_ident()
    taken = 0

    def watch(count: int) -> None:
        nonlocal taken
        if threading.get_ident() == main:
            assert begun.wait(60)
            raise KeyboardInterrupt
        taken += count
        begun.set()
        until(lambda: spool.stopped, 60)

    spool.watch = watch
    with pytest.raises(KeyboardInterrupt):
        spool.both(passes.survey(1), passes.waits((False, False, 0, 0, EVENTS), array_of([])))
    assert taken == EVENTS % 3


def test_no_folder_for_the_file_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(HostError, match=r"kept in a file in .*none \(TMPDIR\): No such file"):
        Spool()
