"""Options are checked before anything starts; savings are computed from typed runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer import BadParameter

from coalesced.tools import early
from coalesced.tools.commands import options as options_module
from coalesced.tools.commands import wants_guest_process
from coalesced.tools.commands.arguments import split
from coalesced.tools.commands.stress import number
from coalesced.tools.errors import BadInput
from coalesced.tools.runs.options import Accel, RunOptions, check_writable
from coalesced.tools.runs.outputs import trace_file
from coalesced.vmm.zone import Choice, Zone
from helpers.command_line import status_of

GOOD = """\
no_function = 5
def makes(vcpu):
    yield vcpu.store8(0xA0000, 1)
async def waits(vcpu):
    vcpu.store8(0xA0000, 1)
"""


def options(**given: object) -> RunOptions:
    """The value that a command gets from its options."""
    taken: list[RunOptions] = []

    @options_module.with_run_options()
    def command(options: RunOptions, json: bool) -> int:
        assert json
        taken.append(options)
        return 3

    assert command(json=True, **given) == 3
    return taken[0]


@pytest.mark.parametrize("pages", [1, 2, 4096])
def test_ring_pages_in_range_are_taken(pages: int) -> None:
    assert options(ring_pages=pages).ring_pages == pages


@pytest.mark.parametrize("pages", [0, -1, 4097, 1000000])
def test_ring_pages_out_of_range_are_refused(pages: int) -> None:
    with pytest.raises(BadInput, match=f"--ring-pages {pages}: expected 1 to 4096 pages"):
        options(ring_pages=pages)


@pytest.mark.parametrize(
    ("text", "seconds"), [("off", None), ("10", 0.01), ("0.5", 0.0005), ("60000", 60.0)]
)
def test_staleness_is_given_in_milliseconds(text: str, seconds: float | None) -> None:
    staleness = options(staleness=text).staleness
    assert staleness == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("text", ["0", "-1", "60001", "nan", "inf", "", "x", "1ms", "OFF"])
def test_other_stalenesses_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match=f"^--staleness {text}: expected above 0 to 60000"):
        options(staleness=text)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    check_writable("--png", tmp_path / "new.png")
    (tmp_path / "old.png").touch()
    check_writable("--png", tmp_path / "old.png")
    with pytest.raises(BadInput, match="there is no folder"):
        check_writable("--png", tmp_path / "no" / "new.png")
    with pytest.raises(BadInput, match="expected a file, found a folder"):
        check_writable("--png", tmp_path)
    with pytest.raises(BadInput, match=r"--trace .*: there is no folder"):
        options(trace_out=tmp_path / "no" / "t")


def test_a_trace_on_a_full_disk_is_bad_input_and_other_errors_stay_what_they_are() -> None:
    def fill() -> None:
        with trace_file(Path("/dev/full")) as file:
            assert file is not None
            file.write("line\n")

    with pytest.raises(BadInput, match="--trace /dev/full: No space left on device"):
        fill()
    with pytest.raises(PermissionError), trace_file(Path("/dev/null")):
        raise PermissionError
    with trace_file(None) as file:
        assert file is None


# --- the command line in this process ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nope"], "No such option"),
        (["nope"], "No such command 'nope'"),
        (["demo"], "Missing command"),
        (["demo", "nope"], "No such command 'nope'"),
        (["demo", "vga", "extra"], "Got unexpected extra argument"),
        (["demo", "vga", "--ring-pages"], "requires an argument"),
        (["run"], "Missing argument 'GUEST'"),
        (["replay"], "Missing argument 'TRACE'"),
        (["demo", "vga", "--ring-pages", "abc"], "Invalid value for '--ring-pages': 'abc'"),
        (["demo", "vga", "--ring-pages", "1.5"], "Invalid value for '--ring-pages': '1.5'"),
        (["demo", "vga", "--ring-pages", "-1"], "--ring-pages -1: expected 1 to 4096 pages"),
        (["run", "g.py:f", "--vcpus", "9"], "--vcpus 9: expected 1 to 8 vCPUs"),
        (["run", "g.py:f", "--vcpus", "2", "--accel", "direct"], "--accel direct has one vCPU"),
        (["replay", "boot", "--ring-pages", "0"], "--ring-pages 0: expected 1 to 4096 pages"),
        (["demo", "vga", "--wait", "x"], "Invalid value for '--wait'"),
        (["demo", "vga", "--cpus", "x"], "Invalid value for '--cpus'"),
        (["demo", "vga", "--accel", "x"], "Invalid value for '--accel'"),
        (["run", "g.py:f", "--staleness", "-1"], "--staleness -1: expected above 0"),
        (["run", "g.py:f", "--png", "nowhere/s.png"], "there is no folder nowhere"),
        (["demo", "vga", "--png", "."], "expected a file, found a folder"),
        (["demo", "vga", "--image", "none.png"], "--image none.png: no such file"),
        (["replay", "none.trace"], "trace none.trace: No such file or directory"),
        *(
            (["run", "--accel", "direct", guest], message)
            for guest, message in (
                ("nothing.py:main", "nothing.py: no such file"),
                ("good.py:nobody", "good.py: it has no function 'nobody'"),
                ("good.py:no_function", "'no_function' is not a function"),
                ("good.py", "guest 'good.py': expected FILE.py:FUNCTION or module:function"),
                ("good.py:makes", "expected a plain function, 'makes' is a generator"),
                ("good.py:waits", "expected a plain function, 'waits' is a generator or a corou"),
                ("no_such_module:main", "no_such_module: ModuleNotFoundError: No module named"),
                ("syntax.py:main", "syntax.py: line 2: SyntaxError: "),
                ("fails.py:main", "fails.py: line 1: ZeroDivisionError: division by zero"),
                ("leaves.py:main", "leaves.py: line 1: SystemExit: 3"),
            )
        ),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_wrong_usage_is_one_line_and_status_2(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.py").write_text(GOOD)
    (tmp_path / "syntax.py").write_text("def main(vcpu):\n    return (\n")
    (tmp_path / "fails.py").write_text("1 / 0\n")
    (tmp_path / "leaves.py").write_text("raise SystemExit(3)\n")
    said: list[str] = []
    try:
        assert status_of(arguments, said.append) == 2
    finally:
        early.close()
    assert len(said) == 1
    assert message in said[0]
    assert "\n" not in said[0]


# --- the early guest process ---


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("demo vga", True),
        ("run g.py:f", True),
        ("replay boot", True),
        ("qtest --socket kvm", True),
        ("demo vga --png kvm", True),
        ("demo vga --png direct --trace=direct", True),
        ("run kvm --accel process", True),
        ("run -- --help", True),
        ("info", False),
        ("bench ring", False),
        ("", False),
        ("--help", False),
        ("demo vga --help", False),
        ("demo vga --accel direct", False),
        ("demo vga --accel=direct", False),
        ("demo vga --accel kvm --json", False),
    ],
)
def test_a_guest_process_starts_early_for_commands_that_use_one(line: str, wanted: bool) -> None:
    assert wants_guest_process(line.split()) is wanted


def test_the_early_process_is_given_away_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    def make() -> object:
        made.append(object())
        return made[-1]

    monkeypatch.setattr(early, "GuestProcess", make)
    early.start()
    assert early.take() is made[0]
    assert early.take() is made[1]
    early.close()  # nothing waits any more


def test_an_early_process_that_nobody_takes_is_ended_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class FakeProcess:
        closed = 0

        def close(self) -> None:
            self.closed += 1

    process = FakeProcess()
    monkeypatch.setattr(early, "GuestProcess", lambda: process)
    early.start()
    early.close()
    early.close()
    assert process.closed == 1


# --- the zones of a run ---


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--no-coalesce"], ["--no-coalesce"]),
        (["--no-coalesce", "0x10+4"], ["--no-coalesce-range=0x10+4"]),
        (["--no-coalesce=0x10+4"], ["--no-coalesce-range=0x10+4"]),
        (["--no-coalesce", "pio:0x3c0+1", "x.py:f"], ["--no-coalesce-range=pio:0x3c0+1", "x.py:f"]),
        (["--no-coalesce", "0x10"], ["--no-coalesce-range=0x10"]),
        (["--no-coalesce", "-1+4"], ["--no-coalesce-range=-1+4"]),
        (["--no-coalesce", "x+y"], ["--no-coalesce-range=x+y"]),
        (["--no-coalesce", "guest.py:main"], ["--no-coalesce", "guest.py:main"]),
        (["--no-coalesce", "c++/a.py:main"], ["--no-coalesce", "c++/a.py:main"]),
        (["--no-coalesce", "boot"], ["--no-coalesce", "boot"]),
        (["--no-coalesce", "2026.trace.gz"], ["--no-coalesce", "2026.trace.gz"]),
        (["--no-coalesce", "--", "0x10+4"], ["--no-coalesce", "--", "0x10+4"]),
        (["--explain"], ["--explain"]),
        (["--explain", "20"], ["--explain-first=20"]),
        (["--explain=20", "9"], ["--explain-first=20", "9"]),
        (["--explain", "guest.py:main"], ["--explain", "guest.py:main"]),
        (["--no-coalesce", "--explain", "20"], ["--no-coalesce", "--explain-first=20"]),
    ],
)
def test_a_range_may_follow_no_coalesce(given: list[str], expected: list[str]) -> None:
    assert split(given) == expected


def test_zones_are_chosen() -> None:
    chosen = options(no_coalesce=True, coalesce=["0x100+4"], no_coalesce_range=["pio:0x3c0+1"])
    assert chosen.coalesce
    assert chosen.zones == Choice(False, (Zone(False, 0x100, 4),), (Zone(True, 0x3C0, 1),))
    assert not options(no_coalesce=True).coalesce


@pytest.mark.parametrize("text", ["", "1", "0x1+0", "pio:0x10000+1", f"1+{1 << 64}"])
@pytest.mark.parametrize("option", ["coalesce", "no_coalesce_range"])
def test_ranges_that_are_none_are_refused(option: str, text: str) -> None:
    name = option.removesuffix("_range").replace("_", "-")
    with pytest.raises(BadInput, match=f"^--{name} {re.escape(text)}: expected "):
        options(**{option: [text]})


def test_a_zone_needs_a_ring() -> None:
    with pytest.raises(BadInput, match="--accel direct has no ring"):
        options(accel=Accel.direct, coalesce=["0x10+4"])


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("1e9", 10**9), ("1.5e1", 15)])
def test_a_number_of_entries_may_have_an_exponent(text: str, value: int) -> None:
    assert number(text) == value


@pytest.mark.parametrize("text", ["0", "-3", "1.5", "1e40", "nan", "1e", "x", ""])
def test_what_is_no_number_of_entries_is_refused(text: str) -> None:
    with pytest.raises(BadParameter, match=f"^{text}: expected a whole number, 1 to 1e18"):
        number(text)
