"""`coalesced stress` passes a correct core and finds the fault of a broken one."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from helpers import warm
from helpers.tiers import some_heavy
from helpers.vmm_cli import LIMIT, Cold, json_of, one_line, run
from helpers.warm import PROGRAM

WRONG = ("lost", "duplicated", "reordered", "torn", "wrong_loads", "leaked_segments")


def stress(cwd: Path, *arguments: object) -> dict[str, Any]:
    """A run in which nothing goes wrong."""
    result = json_of("stress", *arguments, cwd=cwd)
    assert result["ok"] is True, result
    assert {key: result[key] for key in WRONG} == dict.fromkeys(WRONG, 0)
    assert result["failures"] == []
    return result


def test_full_speed(tmp_path: Path) -> None:
    """Every entry once, in order, whole; loads read what the device answers."""
    result = stress(tmp_path, "--entries", 200_000, "--seed", 1)
    assert result["entries"] >= 200_000
    assert result["loads"] > 0
    assert result["seed"] == 1
    assert result["entries_per_second"] == pytest.approx(result["entries"] / result["seconds"])


def stress_until(cwd: Path, wanted: tuple[str, ...], *arguments: object) -> None:
    """Runs of a second and more, until one has some of each: a busy machine may need a while."""
    for seconds in (1, 5, 25, 125):
        result = stress(cwd, *arguments, "--seconds", seconds)
        if all(result[key] > 0 for key in wanted):
            return
    pytest.fail(f"{wanted}: {result}")


def test_without_timed_flushes(tmp_path: Path) -> None:
    """Only exits, and a VMM that polls, drain the ring."""
    pinned = ("--staleness", "off", "--ring-pages", 2, "--cpus", "any")
    stress_until(tmp_path, ("entries",), *pinned)


def test_stops(tmp_path: Path) -> None:
    """A side that stands still for a while loses nothing."""
    stress_until(tmp_path, ("stops", "entries"), "--stop")


@some_heavy("side", [["hv"], ["vmm"], ["both"]], lambda side: side == "both")
def test_kills(tmp_path: Path, side: str) -> None:
    """Every published entry is accounted for; the other side notices within a second."""
    result = stress(tmp_path, "--kill", side, "--times", 8)
    assert (result["kills"], result["recovered"]) == (8, 8)
    assert result["slowest_notice_seconds"] <= 1.0


@some_heavy("vcpus", [[2], [4]], lambda vcpus: vcpus == 4)
def test_each_vcpu_s_entries_in_one_ring(tmp_path: Path, vcpus: int) -> None:
    """Once, in its order, whole, whichever others the vCPUs put between them; loads, too."""
    result = stress(tmp_path, "--vcpus", vcpus, "--stop", "--entries", 100_000, "--seed", 1)
    assert result["entries"] >= 100_000
    assert result["loads"] > 0


@some_heavy("vcpus, rings", [(1, 1), (4, 1), (4, 3)], lambda _, rings: rings == 3)
def test_each_vcpu_s_entries_in_own_rings(tmp_path: Path, vcpus: int, rings: int) -> None:
    """Also where two vCPUs share one, with loads that must find them done."""
    result = stress(tmp_path, "--vcpus", vcpus, "--rings", rings, "--stop", "--entries", 50_000)
    assert result["entries"] >= 50_000


def test_kills_with_own_rings(tmp_path: Path) -> None:
    """The entries of every ring are accounted for."""
    result = stress(tmp_path, "--vcpus", 4, "--rings", 3, "--kill", "both", "--times", 8)
    assert (result["kills"], result["recovered"]) == (8, 8)


def test_kills_of_four_vcpus(tmp_path: Path) -> None:
    """Every published entry is accounted for, whichever vCPU held the ring's lock."""
    result = stress(tmp_path, "--vcpus", 4, "--kill", "both", "--times", 12)
    assert (result["kills"], result["recovered"]) == (12, 12)


@some_heavy("vcpus, rings", [(1, 1), (2, 2), (4, 3)], lambda vcpus, _: vcpus < 4)
def test_corruptions_of_own_rings(tmp_path: Path, vcpus: int, rings: int) -> None:
    """Of each ring, its words and its descriptor, beside everything else."""
    result = stress(tmp_path, "--vcpus", vcpus, "--rings", rings, "--corrupt", "--times", 60)
    assert result["corruptions_detected"] + result["corruptions_harmless"] == 60
    assert result["corruptions_detected"] > 0


def test_corruptions_of_several_vcpus(tmp_path: Path) -> None:
    """Of the ring that they share, and of the run page and the pipe of any."""
    result = stress(tmp_path, "--vcpus", 3, "--corrupt", "--times", 40)
    assert result["corruptions_detected"] + result["corruptions_harmless"] == 40
    assert result["corruptions_detected"] > 0


@pytest.mark.heavy
def test_all_in_turn(tmp_path: Path) -> None:
    """Kills, stops and corruptions by turns in one run, each of one pair only."""
    result = stress(tmp_path, "--kill", "both", "--stop", "--corrupt", "--times", 8)
    assert min(result["kills"], result["corruptions"]) == 8
    assert result["stops"] > 0


def test_corruptions(tmp_path: Path) -> None:
    """Each is detected or harmless."""
    result = stress(tmp_path, "--corrupt", "--times", 60)
    assert result["corruptions"] == 60
    assert result["corruptions_detected"] + result["corruptions_harmless"] == 60
    assert result["corruptions_detected"] > 0
    assert result["corruptions_harmless"] > 0


def found(cwd: Path, broken: str, *arguments: object) -> list[str]:
    """Run with a broken core, which must exit with 1: the failures it reports."""
    done = run("stress", "--break", broken, *arguments, "--json", cwd=cwd)
    result = json.loads(done.stdout)
    assert done.returncode == 1
    assert (result["broken"], result["found"], result["ok"]) == (broken, True, False)
    failures: list[str] = result["failures"]
    return failures


def test_an_index_that_is_read_twice_is_found_out(tmp_path: Path) -> None:
    """A hostile peer changes it in between, and the guest process crashes."""
    failures = found(tmp_path, "double-read", "--seconds", 50)
    assert "a crash: the guest process ended with status -11" in failures[0]


@pytest.mark.heavy
def test_the_full_check_of_2009_is_found_out(tmp_path: Path) -> None:
    """It loses a whole ring where it is drained while the guest runs."""
    pinned = ("--ring-pages", 1, "--wait", "poll", "--seconds", 240)
    failures = found(tmp_path, "full-check-2009", *pinned)
    assert "lost" in failures[0] or "index last" in failures[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--times", 3), "--times: expected --kill or --corrupt with it"),
        (("--seconds", 0), "--seconds 0: expected a number above 0"),
        (("--staleness", "never"), "--staleness never: expected above 0 to 60000 milliseconds"),
        (("--kill", "both", "--break", "nothing"), "--break"),
        (("--kill", "me"), "--kill"),
        (("--entries", 0), "--entries"),
        (("--vcpus", 5), "--vcpus"),
        (("--vcpus", 2, "--rings", 3), "--rings 3: expected at most one for each of --vcpus"),
        (("--rings", 1, "--ring", "x.h"), "--rings cannot be used with --ring"),
    ],
)
def test_wrong_usage_is_one_line(tmp_path: Path, arguments: tuple[object, ...], said: str) -> None:
    """With exit status 2."""
    command = ["stress", *map(str, arguments)]  # which ends before it loads a core
    assert said in one_line(warm.run(command, tmp_path, LIMIT), 2)


def test_ctrl_c_ends_it_all(tmp_path: Path) -> None:
    """Exit status 130, the counts so far, and no process or name left."""
    with Cold("stress", "--kill", "both", "--seconds", 60, cwd=tmp_path) as running:
        running.wait_for_guest()
        running.interrupt()
        status, out, err = running.end()
        assert status == 130
        assert out == "" or ("kills" in out and "nterrupted" in out)
        assert err.splitlines()[-1].startswith("coalesced: interrupted")
        running.nothing_left()


@pytest.mark.heavy
@pytest.mark.parametrize(
    "arguments",
    [
        ("--entries", 10_000_000),
        ("--kill", "both", "--times", 200),
        ("--kill", "both", "--times", 100, "--vcpus", 4),
        ("--kill", "both", "--times", 100, "--vcpus", 4, "--rings", 3),
        ("--kill", "hv", "--times", 50),
        ("--kill", "vmm", "--times", 50),
        ("--corrupt", "--times", 2000),
        ("--corrupt", "--times", 600, "--vcpus", 2, "--rings", 2),
        ("--stop", "--seconds", 20),
    ],
    ids=lambda arguments: " ".join(map(str, arguments)),
)
def test_longer_runs(tmp_path: Path, arguments: tuple[object, ...]) -> None:
    """The same, longer."""
    done = subprocess.run(
        [PROGRAM, "stress", *map(str, arguments), "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
