"""Several recordings as one report, wherever they are read."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from coalesced.hv.errors import HostError
from coalesced.tools.advise import report, spread
from coalesced.tools.advise.advice import Advice, Options, advise
from coalesced.tools.advise.fleet import advise_all, study
from coalesced.tools.advise.members import members
from coalesced.tools.advise.recording import read
from coalesced.tools.advise.spread import TRIES, Cluster, Processes, here, scanners
from coalesced.tools.advise.verdicts import Verdict
from coalesced.tools.errors import BadInput
from coalesced.tools.traces.reader import Pool, Scanned, Scanners
from coalesced.tools.traces.source import ENDLESS
from coalesced.vmm.zone import Zone
from helpers.hv_processes import within
from helpers.kvm_trace import Tape

WINDOW = 0xFD000000
INDEX, DATA = 0x70, 0x71
OPTIONS = Options()


def saved(tape: Tape, path: Path) -> Path:
    path.write_text("\n".join(tape.lines) + "\n")
    return path


def filled(path: Path, start: int = WINDOW, entries: int = 200) -> Path:
    """A window that is filled and read."""
    tape = Tape()
    for at in range(entries):
        tape.store(start + 4 * at, at)
    for at in range(9):
        tape.load(start + 4 * at, at)
    return saved(tape, path)


def indexed(path: Path, rounds: int = 20) -> Path:
    """An index register with data that follows it."""
    tape = Tape()
    for number in range(rounds * 8):
        tape.out(INDEX, number % 8)
        tape.in_(DATA, 100 + 7 * (number % 8))
    return saved(tape, path)


def written_twice(path: Path) -> Path:
    """The same index register, of which this recording shows nothing either way."""
    tape = Tape()
    tape.out(INDEX, 1)
    tape.in_(0x80, 0)
    tape.out(INDEX, 2)
    tape.in_(0x80, 0)
    return saved(tape, path)


def rung(path: Path) -> Path:
    """The same register as a doorbell: the guest waits after each write."""
    tape = Tape()
    for number in range(20):
        tape.out(INDEX, number % 3)
        tape.idle(5_000)
        tape.in_(DATA, 100 + 7 * (number % 3))
    return saved(tape, path)


def verdicts(advice: Advice) -> dict[Zone, Verdict]:
    return {each.zone: each.verdict for each in advice.ranges}


def as_json(advice: Advice) -> str:
    return json.dumps(members(advice), default=vars)


def test_the_figures_are_sums(tmp_path: Path) -> None:
    paths = [filled(tmp_path / "a"), filled(tmp_path / "b"), indexed(tmp_path / "c")]
    alone = [study(OPTIONS, path, path) for path in paths]
    together = advise_all(paths, OPTIONS, here)
    assert together.exits == sum(each.exits for each in alone)
    assert together.exits_advised == sum(each.exits_advised for each in alone)
    assert sum(together.exits_by_part) == together.exits
    assert sum(together.exits_advised_by_part) == together.exits_advised
    assert together.what_if.ring_pages["2"] == sum(e.what_if.ring_pages["2"] for e in alone)
    assert together.advised == [Zone(False, WINDOW, 800), Zone(True, INDEX, 1)]
    (window,) = [each for each in together.ranges if each.zone.address == WINDOW]
    assert (window.writes, window.reads) == (400, 18)
    shown = list(report.lines(together))
    assert any(str(paths[2]) in line for line in shown)
    assert all(len(line) < 80 or str(tmp_path) in line for line in shown)


def test_windows_that_overlap_are_one(tmp_path: Path) -> None:
    paths = [filled(tmp_path / "a"), filled(tmp_path / "b", WINDOW + 400)]
    together = advise_all(paths, OPTIONS, here)
    assert together.advised == [Zone(False, WINDOW, 1200)]


def test_a_recording_that_shows_nothing_has_no_say(tmp_path: Path) -> None:
    """Its own exits are saved, too."""
    paths = [indexed(tmp_path / "a"), written_twice(tmp_path / "b")]
    assert verdicts(study(OPTIONS, paths[1], paths[1]))[Zone(True, INDEX, 1)] is Verdict.UNPROVEN
    together = advise_all(paths, OPTIONS, here)
    assert verdicts(together)[Zone(True, INDEX, 1)] is Verdict.COALESCE
    assert [each.exits_advised for each in together.recordings] == [160, 2]


def test_one_recording_can_refuse_a_range_for_all(tmp_path: Path) -> None:
    """The report names it, and no exit of any recording is saved."""
    paths = [indexed(tmp_path / "a"), rung(tmp_path / "b")]
    together = advise_all(paths, OPTIONS, here)
    (index,) = [each for each in together.ranges if each.zone == Zone(True, INDEX, 1)]
    assert index.verdict is not Verdict.COALESCE
    assert index.trace == str(paths[1])
    assert together.advised == []
    assert together.exits_advised == together.exits


def test_a_zone_that_is_in_force_where_it_is_written_is_not_added(tmp_path: Path) -> None:
    tape = Tape()
    for at in range(200):
        tape.store(WINDOW + 4 * at, at, exits=at == 169)
    tape.load(WINDOW, 0)
    together = advise_all([saved(tape, tmp_path / "a"), indexed(tmp_path / "b")], OPTIONS, here)
    assert together.advised == [Zone(True, INDEX, 1)]


@pytest.fixture
def fleet(tmp_path: Path) -> list[Path]:
    """Recordings of each kind."""
    return [
        made(tmp_path / f"{made.__name__}-{number}")
        for number in range(2)
        for made in (filled, indexed, written_twice, rung)
    ]


@pytest.mark.slow
def test_processes_say_the_same_as_one(fleet: list[Path]) -> None:
    expected = as_json(advise_all(fleet, OPTIONS, here))
    assert as_json(advise_all(fleet, OPTIONS, Processes(2))) == expected


@dataclass(frozen=True)
class Killed:
    """A study whose process dies where a file says so: once, or each time."""

    flag: Path
    once: bool

    def __call__(self, path: Path, shown: Path, scanners: Scanners | None = None) -> Advice:
        if self.flag.exists() and path.name == "indexed-0":
            if self.once:
                self.flag.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return study(OPTIONS, path, shown)


@pytest.mark.slow
def test_what_a_killed_process_had_is_done_again(fleet: list[Path], tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    expected = [as_json(study(OPTIONS, path, path)) for path in fleet]
    found = Processes(2)(Killed(flag, once=True), fleet)
    assert [as_json(each) for each in found] == expected
    assert not flag.exists()


@pytest.mark.heavy
def test_processes_that_die_each_time_end_it(fleet: list[Path], tmp_path: Path) -> None:
    (tmp_path / "flag").touch()
    with pytest.raises(HostError, match=f"died {TRIES} times"):
        Processes(2)(Killed(tmp_path / "flag", once=False), fleet)


def waiting(path: Path, shown: Path, scanners: Scanners | None = None) -> Advice:
    """A study that Ctrl-C finds at work, in a process that does not see it."""
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    os.kill(os.getppid(), signal.SIGINT)
    signal.pause()
    return study(OPTIONS, path, shown)


@pytest.mark.slow
def test_ctrl_c_ends_the_processes_at_once(
    fleet: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    """They say nothing, and none is left."""
    with within(30), pytest.raises(KeyboardInterrupt):
        Processes(2)(waiting, fleet)
    assert multiprocessing.active_children() == []
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
def test_a_damaged_recording_is_named_wherever_it_is_read(fleet: list[Path]) -> None:
    fleet[3].write_text("nothing\n")
    with pytest.raises(BadInput, match=f"^{fleet[3]}: expected at least one line"):
        advise_all(fleet, OPTIONS, Processes(2))


# --- a cluster ---


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a scheduler with two workers on loopback."""
    distributed = pytest.importorskip("distributed", reason="distributed is not installed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    ) as running:
        yield running.scheduler_address


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore")  # of the library
def test_a_cluster_says_the_same_also_when_a_worker_is_killed(
    fleet: list[Path], cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of large recordings, of which a worker gets a part."""
    expected = as_json(advise_all(fleet, OPTIONS, here))
    assert as_json(advise_all(fleet, OPTIONS, Cluster(cluster))) == expected
    monkeypatch.setattr(spread, "LARGE", 2000)
    assert max(path.stat().st_size for path in fleet) > 2000 > fleet[2].stat().st_size
    assert as_json(advise_all(fleet, OPTIONS, Cluster(cluster))) == expected
    assert len(workers()) >= 2
    killer = threading.Timer(0.05, workers()[0].kill)
    killer.start()
    assert as_json(advise_all(fleet * 4, OPTIONS, Cluster(cluster))) == as_json(
        advise_all(fleet * 4, OPTIONS, here)
    )
    killer.join()
    fleet[3].write_text("nothing\n")
    with pytest.raises(BadInput, match=f"^{fleet[3]}: expected at least one line"):
        advise_all(fleet, OPTIONS, Cluster(cluster))


def workers() -> list[psutil.Process]:
    """The processes of the cluster's workers."""
    children = psutil.Process().children(recursive=True)
    return [each for each in children if any("spawn_main" in word for word in each.cmdline())]


@dataclass
class Killing:
    """A pool that loses a worker when it has got so many blocks."""

    pool: Pool
    left: int = 20

    def submit(self, function: Callable[..., Scanned], /, *args: Any) -> Any:
        self.left -= 1
        if not self.left:
            workers()[0].kill()
        return self.pool.submit(function, *args)


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_reads_parts_of_one_recording_also_when_a_worker_is_killed(
    tmp_path: Path, cluster: str
) -> None:
    path = indexed(tmp_path / "long", rounds=200)
    expected = as_json(study(OPTIONS, path, path))
    with scanners(0, cluster) as found:
        killing = Killing(found.pool)
        small = replace(ENDLESS, block=4096)
        recording = read(path, Scanners(killing, found.ahead), small)
    assert killing.left < 0
    assert as_json(advise(recording, OPTIONS)) == expected


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense://x", "127.0.0.1:1", "here"])
def test_no_scheduler_is_one_line(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed", reason="distributed is not installed")
    cluster = Cluster(address, connect=0.2)
    with pytest.raises(BadInput, match=f"^--scheduler {address}: no scheduler answers: "):
        cluster(study, [filled(tmp_path / "a")])  # type: ignore[arg-type]
