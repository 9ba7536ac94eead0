"""Wrong usage, bad input, a full disk: one clear line and the right exit status."""

from __future__ import annotations

import gzip
import itertools
import json
import os
from importlib.metadata import version
from pathlib import Path

import pytest
from PIL import Image

from coalesced.tools import traces
from helpers.vmm_cli import json_of, one_line, run

COMMANDS = [["demo", "vga"], ["run"], ["replay"], ["advise"], ["info"]]


def test_help_lists_the_commands(tmp_path: Path) -> None:
    done = run("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == ""
    for command in ("demo", "run", "replay", "bench", "info"):
        assert command in done.stdout


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_of_every_command_shows_examples(tmp_path: Path, command: list[str]) -> None:
    done = run(*command, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "Example" in done.stdout
    assert f"coalesced {command[0]}" in done.stdout
    assert "--json" in done.stdout


def test_info_says_what_the_machine_offers(tmp_path: Path) -> None:
    facts = json_of("info", cwd=tmp_path)
    assert facts["cpus"] == len(os.sched_getaffinity(0))
    assert facts["ring_entries"] == {"1": 169, "2": 340, "4": 681, "8": 1364, "16": 2729}
    assert facts["kvm"]["usable"] or facts["kvm"]["reason"].startswith("/dev/kvm")
    assert "ring entries" in run("info", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "No such command 'nope'"),
        (["demo", "vga", "--ring-pages", "1000000"], "--ring-pages 1000000: expected 1 to 4096"),
        (["demo", "vga", "--ring-pages", "abc"], "Invalid value for '--ring-pages'"),
        (["demo", "vga", "--wait", "x"], "Invalid value for '--wait'"),
        (["run", "g.py:f", "--staleness", "x"], "--staleness x: expected above 0"),
        (["advise", "boot", "--zone", "x"], "--zone x: expected [pio:]ADDRESS+SIZE"),
        (["advise", "boot", "--exit-ns", "nan"], "--exit-ns nan: expected above 0"),
        (["advise", "boot", "--map", "none"], "--map none: No such file or directory"),
        (["advise", "none"], "trace none: No such file or directory"),
        (["bench", "--json"], "--json: give a benchmark's name"),
        (["demo", "e1000", "--ip", "192.0.2.9"], "--ip 192.0.2.9: needs a --netdev"),
        (
            ["demo", "e1000", "--frames", "5", "--netdev", "hubport,id=a,hubid=0"],
            "--frames 5: cannot be used with --netdev",
        ),
        (
            ["demo", "e1000", "--seconds", "nan", "--netdev", "hubport,id=a,hubid=0"],
            "--seconds nan: expected a number",
        ),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_wrong_usage_is_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    assert message in one_line(run(*arguments, cwd=tmp_path), 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["nowhere/s.png", "/proc/s.png"])
def test_a_picture_that_cannot_be_written_is_named(tmp_path: Path, where: str) -> None:
    (tmp_path / "g.py").write_text("def main(vcpu):\n    pass\n")
    said = one_line(run("run", "g.py:main", "--png", where, cwd=tmp_path), 2)
    assert said.startswith(f"--png {where}: ")


@pytest.mark.parametrize("option", ["--trace", "--png"])
def test_a_full_disk_is_named(tmp_path: Path, option: str) -> None:
    (tmp_path / "g.py").write_text("def main(vcpu):\n    vcpu.fill(0xa0000, 3, 1)\n")
    said = one_line(run("run", "g.py:main", option, "/dev/full", cwd=tmp_path), 2)
    assert said == f"{option} /dev/full: No space left on device"


PRINTING = [
    ["info"],
    ["info", "--json"],
    ["--help"],
    ["demo", "--help"],
    ["demo", "vga", "--accel", "direct", "--png", "none"],
    ["replay", "boot", "--accel", "direct", "--png", "none", "--json"],
    ["litmus", "--slots", "2", "--entries", "1", "--model", "sc"],
    ["bench", "--help"],
]
BUFFERING = pytest.mark.parametrize(
    "buffering", [{}, {"PYTHONUNBUFFERED": "1"}], ids=["buffered", "unbuffered"]
)


@BUFFERING
@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_a_full_standard_output_is_named(
    tmp_path: Path, arguments: list[str], buffering: dict[str, str]
) -> None:
    with open("/dev/full", "wb") as full:
        done = run(*arguments, cwd=tmp_path, stdout=full.fileno(), variables=buffering)
    assert one_line(done, 1) == "standard output: No space left on device"


@BUFFERING
@pytest.mark.parametrize("arguments", PRINTING[:3], ids=" ".join)
def test_a_closed_standard_output_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    buffering: dict[str, str],
) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    for name, value in buffering.items():
        monkeypatch.setenv(name, value)
    done = run(*arguments, cwd=tmp_path, prefix=("sh", "-c", '"$@" >&-', "-"))
    assert one_line(done, 1) == "standard output: Bad file descriptor"


@BUFFERING
@pytest.mark.parametrize("arguments", PRINTING[:3], ids=" ".join)
def test_a_reader_that_goes_away_is_no_error_text(
    tmp_path: Path, arguments: list[str], buffering: dict[str, str]
) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = run(*arguments, cwd=tmp_path, stdout=write_end, variables=buffering)
    os.close(write_end)
    assert done.returncode == 1
    assert done.stderr == ""


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-"])
def test_a_closed_input_or_error_stream_does_not_matter(tmp_path: Path, closed: str) -> None:
    """None of the program's own descriptors takes the place of the closed one."""
    (tmp_path / "g.py").write_text("def main(vcpu):\n    print('x')\n    vcpu.store8(0, 1)\n")
    done = run(
        "run", "g.py:main", "--json", cwd=tmp_path, prefix=("sh", "-c", f'"$@" {closed}', "-")
    )
    assert done.returncode == 0
    assert json.loads(done.stdout)["identical"]


def test_pictures_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "good.png")
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no picture")
    said = one_line(run("demo", "vga", "--image", "none.png", cwd=tmp_path), 2)
    assert said == "--image none.png: no such file"
    for name in ("half.png", "text.png"):
        said = one_line(run("demo", "vga", "--image", name, cwd=tmp_path), 2)
        assert said.startswith(f"--image {name}: not a picture that can be read: ")


# --- help, version, pictures by default ---

ASCII = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
LEAVES = [
    "", "demo", "demo vga", "demo cirrus", "demo e1000", "demo all", "run", "replay", "live",
    "qtest", "advise", "stress", "bench", "bench ring", "bench exit", "bench vga", "bench e1000",
    "bench boot", "bench live", "bench model", "bench all", "litmus", "info",
]  # fmt: skip


@pytest.mark.parametrize("command", LEAVES)
def test_help_prints_on_an_ascii_terminal(tmp_path: Path, command: str) -> None:
    done = run(*command.split(), "-h", cwd=tmp_path, variables=ASCII)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    assert "\\x" not in done.stdout
    assert "\\u" not in done.stdout


@pytest.mark.parametrize(
    "command",
    ["info", "demo vga --accel direct --png none", "replay e1000.trace --accel direct --png none"],
)
def test_tables_print_on_an_ascii_terminal(tmp_path: Path, command: str) -> None:
    with gzip.open(traces.find("e1000"), "rb") as trace:
        (tmp_path / "e1000.trace").write_bytes(b"".join(itertools.islice(trace, 2000)))
    done = run(*command.split(), cwd=tmp_path, variables=ASCII)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    assert "|" in done.stdout


def test_a_name_that_the_terminal_lacks_is_escaped(tmp_path: Path) -> None:
    (tmp_path / "gäst.py").write_text("def main(vcpu):\n    pass\n")
    done = run("run", "gäst.py:main", "--accel", "direct", cwd=tmp_path, variables=ASCII)
    assert done.returncode == 0, done.stderr
    assert "g\\xe4st.py:main" in done.stdout


@pytest.mark.parametrize("columns", ["0", "1", "19"])
def test_a_console_that_tells_no_usable_width_has_tables_of_the_usual_one(
    tmp_path: Path, columns: str
) -> None:
    done = run("info", cwd=tmp_path, variables={"COLUMNS": columns})
    assert "\n│ page size          │ 4096 bytes " in done.stdout


@pytest.mark.parametrize(
    "command", [["run", "g.py:main"], ["replay", "boot"], ["run", "/g.py:main", "--trace", "t"]]
)
def test_a_working_directory_that_is_gone_is_named(tmp_path: Path, command: list[str]) -> None:
    gone = ("sh", "-c", 'mkdir gone; cd gone; rmdir ../gone; exec "$@"', "sh")
    said = one_line(run(*command, cwd=tmp_path, prefix=gone), 2)
    assert said == "the working directory no longer exists: change to another one"


def test_the_version(tmp_path: Path) -> None:
    done = run("--version", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"coalesced {version('coalesced-mmio')}\n"


@pytest.mark.parametrize(
    "command", [["demo", "vga"], ["demo", "cirrus"], ["replay", "boot"]], ids=" ".join
)
def test_a_picture_nobody_asked_for_that_cannot_be_written_is_a_warning(
    command: list[str],
) -> None:
    done = run(*command, "--accel", "direct", "--json", cwd=Path("/proc"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["png"] is None
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("coalesced: warning: the picture is not written: ")


@pytest.mark.parametrize(
    "command", [["demo", "vga"], ["demo", "cirrus"], ["replay", "boot"]], ids=" ".join
)
def test_no_picture_where_none_is_wanted(tmp_path: Path, command: list[str]) -> None:
    result = json_of(*command, "--accel", "direct", "--png", "none", cwd=tmp_path)
    assert result["png"] is None
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_was_asked_for_and_cannot_be_written_is_an_error() -> None:
    done = run("demo", "vga", "--accel", "direct", "--png", "s.png", cwd=Path("/proc"))
    assert one_line(done, 2).startswith("--png s.png: ")


def test_accesses_that_no_device_answers_are_counted_in_the_table(tmp_path: Path) -> None:
    (tmp_path / "g.py").write_text(
        "def main(vcpu):\n"
        "    vcpu.store8(0xf0000000, 1)\n    vcpu.out8(0x500, 1)\n    vcpu.in8(0x501)\n"
    )
    runs = json_of("run", "g.py:main", cwd=tmp_path)["runs"]
    assert [entry["unassigned"] for entry in runs] == [3, 3, 3]
    lines = run("run", "g.py:main", cwd=tmp_path).stdout.splitlines()
    (row,) = [line for line in lines if "no device there" in line]
    assert row.replace("│", " ").split()[-3:] == ["3", "3", "3"]


def test_accesses_that_no_device_answers_are_reported_with_the_device_that_a_pc_has(
    tmp_path: Path,
) -> None:
    (tmp_path / "g.py").write_text(
        "def main(vcpu):\n    vcpu.out8(0x1f6, 0xa0)\n"
        "    vcpu.store8(0xf0000000, 1)\n    vcpu.in8(0x3f4)\n    vcpu.in8(0x3f4)\n"
    )
    for run_ in json_of("run", "g.py:main", cwd=tmp_path)["runs"]:
        assert [(e["address"], e["kind"], e["accesses"]) for e in run_["unanswered"]] == [
            (0x3F4, "pio", 2),
            (0xF0000000, "mmio", 1),
            (0x1F6, "pio", 1),
        ]
    lines = run("run", "g.py:main", cwd=tmp_path).stdout.splitlines()
    assert [line for line in lines if line.startswith("No device at ")] == [
        "No device at pio 0x3f4: 2 accesses; a PC has there: floppy disk controller",
        "No device at mmio 0xf0000000: 1 access",
        "No device at pio 0x1f6: 1 access; a PC has there: IDE, first channel",
    ]


@pytest.mark.parametrize(
    ("addresses", "last"),
    [
        (5, "pio 0x584: 1 access"),
        (6, "1 more address: 1 access"),
        (8, "3 more addresses: 3 accesses"),
    ],
)
def test_of_many_addresses_without_a_device_the_rest_is_counted(
    tmp_path: Path, addresses: int, last: str
) -> None:
    (tmp_path / "g.py").write_text(
        f"def main(vcpu):\n    for n in range({addresses}):\n        vcpu.out8(0x580 + n, 0)\n"
    )
    found = json_of("run", "g.py:main", "--accel", "direct", cwd=tmp_path)["runs"][0]
    assert (found["unassigned"], found["unassigned_addresses"]) == (addresses, addresses)
    lines = run("run", "g.py:main", "--accel", "direct", cwd=tmp_path).stdout.splitlines()
    told = [line for line in lines if line.startswith("No device at ")]
    assert len(told) == min(addresses, 6)
    assert told[-1] == f"No device at {last}"
