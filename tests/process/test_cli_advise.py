"""`coalesced advise` as a program: a recording on standard input, JSON, zones, damage."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from helpers.kvm_trace import Tape
from helpers.vmm_cli import json_of, one_line, run

WINDOW = 0xFD000000


def recording() -> str:
    tape = Tape()
    for number in range(3):
        for at in range(0, 0x200, 4):
            tape.store(WINDOW + at, at + number)
        tape.load(WINDOW, number)
    return "\n".join(tape.lines) + "\n"


def test_json_has_the_figures_of_the_report(tmp_path: Path) -> None:
    (tmp_path / "t").write_text(recording())
    found = json_of("advise", "t", cwd=tmp_path)
    zone = {"address": WINDOW, "size": 0x200, "kind": "mmio"}
    assert found["zones_advised"] == [zone]
    assert found["exits_predicted"] == {"now": 3 * 129, "advised": 3}
    assert found["exits_recorded"] == 3 * 129
    assert (found["accesses"], found["reads"], found["writes"]) == (3 * 129, 3, 3 * 128)
    assert found["agreement"]["checked"] == found["agreement"]["agreeing"] == 0
    assert (found["zones_in_force"], found["verified"]) == ([], None)
    assert found["ring_pages"]["1"] == 3
    first = found["ranges"][0]
    assert zone.items() <= first.items()
    assert (first["verdict"], first["exits_saved"]) == ("coalesce", 3 * 128)
    assert first["reasons"][0].startswith("memory: ")
    assert first["wait_us"]["p50"] <= first["wait_us"]["p99"] <= first["wait_us"]["max"]
    report = run("advise", "t", cwd=tmp_path)
    assert report.returncode == 0
    assert "Exits now 387, with the advice 3: 99.2% saved" in report.stdout


def test_the_cost_of_an_exit_is_measured_given_or_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "t").write_text(recording())
    measured = json_of("advise", "t", cwd=tmp_path)
    assert measured["exit_cost"]["source"] == "measured now: a load, --wait adaptive"
    assert 100 < measured["exit_cost"]["ns"] < 1e9
    given = json_of("advise", "t", "--exit-ns", "1e6", cwd=tmp_path)
    assert given["exit_cost"] == {"ns": 1e6, "source": "--exit-ns"}
    assert given["seconds_saved"] == pytest.approx((3 * 129 - 3) * 1e-3)
    samples = {"same: --wait adaptive": [5.0], "split: --wait adaptive": [2.0, 9.0, 3.0]}
    figures = {"exit": {"title": "", "unit": "us", "samples": samples}}
    (tmp_path / "b").write_text(json.dumps({"format": 1, "machine": {}, "figures": figures}))
    saved = json_of("advise", "t", "--exit-ns", "b", cwd=tmp_path)
    assert saved["exit_cost"] == {"ns": 3000.0, "source": "b, split: --wait adaptive"}
    for bad in ("0", "nan", "none", "t"):
        assert f"--exit-ns {bad}: " in one_line(
            run("advise", "t", "--exit-ns", bad, cwd=tmp_path), 2
        )


def test_the_report_does_not_depend_on_who_reads(tmp_path: Path) -> None:
    (tmp_path / "t").write_text(recording() * 40)
    one, four = (
        json_of("advise", "t", "--exit-ns", "9", "--jobs", jobs, cwd=tmp_path) for jobs in (1, 4)
    )
    assert one == four


def test_no_room_for_the_events_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "t").write_text(recording() * 40)
    command = ("advise", "t", "--exit-ns", "9")
    done = run(*command, cwd=tmp_path, prefix=("prlimit", "--fsize=65536"))
    said = one_line(done, 1)
    assert said.startswith("the events of a recording are kept in a file in ")
    assert said.endswith(" (TMPDIR): File too large")


def test_zones_alone_are_printed(tmp_path: Path) -> None:
    (tmp_path / "t").write_text(recording())
    done = run("advise", "t", "--zones", "json", cwd=tmp_path)
    assert json.loads(done.stdout) == [{"addr": WINDOW, "size": 0x200, "pio": 0}]


def test_a_file_without_an_access_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "t").write_text(" q-1 [000] ..... 1.000000: kvm_userspace_exit: reason x (1)\n")
    said = one_line(run("advise", "t", cwd=tmp_path), 2)
    assert "found KVM's tracepoints without an access; record with: perf record" in said


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_recording_is_read_or_refused_in_one_line(tmp_path: Path, seed: int) -> None:
    """Seeds 0 to 3."""
    choose = random.Random(seed)
    text = bytearray(recording().encode())
    for _ in range(300):
        text[choose.randrange(len(text))] = choose.randrange(256)
    (tmp_path / "t").write_bytes(text[: choose.randrange(len(text))])
    done = run("advise", "t", cwd=tmp_path)
    if done.returncode:
        one_line(done, 2)
    else:
        assert " skipped: not an event of this format" in done.stdout


def test_of_several_recordings_none_is_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "t").write_text(recording())
    os.mkfifo(tmp_path / "pipe")
    for given in ("-", "pipe"):
        said = one_line(run("advise", "t", given, "--exit-ns", "5", cwd=tmp_path), 2)
        assert said == f"{given}: a pipe must be the only recording: save it to a file"
