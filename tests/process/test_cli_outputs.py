"""An output is written as a whole, or stays as it was."""

from __future__ import annotations

import gzip
import os
import stat
import subprocess
from pathlib import Path

import pytest

from coalesced.tools import traces
from coalesced.tools.traces.trace import read
from helpers.vmm_cli import one_line, run
from helpers.warm import PROGRAM

GUEST = "def main(vcpu):\n    vcpu.out8(0x3ce, 5)\n\ndef fails(vcpu):\n    main(vcpu)\n    1 / 0\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "guest.py").write_text(GUEST)
    return tmp_path


def test_a_guest_that_is_not_there_leaves_every_output_as_it_was(folder: Path) -> None:
    for name in ("t", "s.png", "f.pcap"):
        (folder / name).write_text("old")
    outputs = ("--trace", "t", "--png", "s.png", "--pcap", "f.pcap")
    netdev = ("--netdev", "hubport,id=n0,hubid=0")
    before = {*os.listdir(folder), "__pycache__"}
    done = run("run", "guest.py:nope", *outputs, *netdev, cwd=folder)
    assert done.returncode == 2
    assert {(folder / name).read_text() for name in ("t", "s.png", "f.pcap")} == {"old"}
    assert {*os.listdir(folder), "__pycache__"} == before


@pytest.mark.parametrize("option", ["--trace", "--png"])
def test_the_guests_own_file_is_no_output(folder: Path, option: str) -> None:
    said = one_line(run("run", "guest.py:main", option, "guest.py", cwd=folder), 2)
    assert said.startswith(f"{option} guest.py: expected a file of its own, but it is the guest's ")
    assert (folder / "guest.py").read_text() == GUEST


def test_the_recording_that_is_replayed_is_no_output(folder: Path) -> None:
    assert run("run", "guest.py:main", "--trace", "t", cwd=folder).returncode == 0
    recorded = (folder / "t").read_bytes()
    for option in ("--trace", "--png"):
        said = one_line(run("replay", "t", option, "./t", cwd=folder), 2)
        assert said == f"{option} t: expected a file of its own, but it is the recording"
    assert (folder / "t").read_bytes() == recorded


def test_a_guest_that_fails_leaves_its_trace(folder: Path) -> None:
    assert run("run", "guest.py:fails", "--trace", "t", cwd=folder).returncode == 1
    assert read(folder / "t").ops["address"].tolist() == [0x3CE]


def test_a_trace_may_go_to_standard_output_a_pipe_or_nowhere(folder: Path) -> None:
    for target in ("/dev/stdout", "/dev/fd/1"):
        done = run("run", "guest.py:main", "--trace", target, "--json", cwd=folder)
        assert done.returncode == 0
        assert done.stdout.startswith("memory_region_ops_write cpu 0 ")
        assert done.stdout.rstrip().endswith("}")
    assert run("run", "guest.py:main", "--trace", "/dev/null", cwd=folder).returncode == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with (folder / "all").open("w") as out:
        command = [PROGRAM, "run", "guest.py:main", "--trace", "/dev/stdout", "--json"]
        subprocess.run(command, cwd=folder, stdout=out, check=True, timeout=60)
    text = (folder / "all").read_text()
    assert text.startswith("memory_region_ops_write cpu 0 ")
    assert text.rstrip().endswith("}")


def test_a_link_to_a_file_stays_one(folder: Path) -> None:
    (folder / "link").symlink_to("real")
    assert run("run", "guest.py:main", "--trace", "link", cwd=folder).returncode == 0
    assert (folder / "link").is_symlink()
    assert len(read(folder / "real").ops) == 1


def test_a_trace_bomb_is_refused_in_little_memory(tmp_path: Path) -> None:
    """The process has a limit of 700 MiB, less than the unpacked text."""
    packed = gzip.compress(bytes(1 << 24), 1) * 64
    (tmp_path / "zeros").write_bytes(packed)
    limited = ("sh", "-c", f'ulimit -d {700 << 10}; exec "$@"', "sh")
    said = one_line(run("replay", "zeros", cwd=tmp_path, prefix=limited), 2)
    assert said.startswith("trace zeros: line 1: expected a line of text, it does not end within")


def test_a_device_is_no_recording(tmp_path: Path) -> None:
    said = one_line(run("replay", "/dev/zero", cwd=tmp_path), 2)
    assert said == "trace /dev/zero: expected a file or a pipe, found a device or a socket"


def test_a_recording_comes_through_a_pipe(tmp_path: Path) -> None:
    path = traces.find("boot")
    with path.open("rb") as source:
        done = subprocess.run(
            [PROGRAM, "replay", "/dev/stdin", "--json"],
            cwd=tmp_path, stdin=source, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 0
