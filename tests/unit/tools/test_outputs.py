"""A command never writes to a file that it reads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coalesced.tools.errors import BadInput
from coalesced.tools.runs.outputs import check_apart, guest_files, trace_file


@pytest.mark.parametrize("make", ["same", "link", "hard link", "relative"])
def test_an_output_that_is_an_input_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: str
) -> None:
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "guest.py"
    source.write_text("x")
    target = tmp_path / "out"
    if make == "same":
        target = source
    elif make == "link":
        target.symlink_to(source)
    elif make == "hard link":
        target.hardlink_to(source)
    else:
        target = Path("../") / tmp_path.name / "guest.py"
    message = rf"^--trace .*: expected a file of its own, but it is the guest's {source}$"
    with pytest.raises(BadInput, match=message):
        check_apart({"--trace": target}, guest_files(f"{source}:main", []))
    assert source.read_text() == "x"


def test_two_outputs_into_one_file_are_refused(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with pytest.raises(BadInput, match=r"--png .*: expected .* also the file of --trace"):
        check_apart({"--trace": target, "--png": target}, {})
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(BadInput, match="the file of --trace"):
        check_apart({"--trace": target, "--png": tmp_path / "link"}, {})


def test_what_is_no_regular_file_may_be_given_twice(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (Path("/dev/null"), fifo):
        check_apart({"--trace": path, "--png": path}, {"the recording": path})
    check_apart({"--trace": tmp_path / "a", "--png": tmp_path / "b", "--pcap": None}, {"x": None})


def test_files_of_guests_and_devices_are_found() -> None:
    found = guest_files("a.py:main", ["VGA,addr=02.0", "b.py:Card,addr=05.0", "d/c.py:Card"])
    assert found == {
        "the guest's a.py": Path("a.py"),
        "a device's b.py": Path("b.py"),
        "a device's d/c.py": Path("d/c.py"),
    }
    assert guest_files("coalesced.tools.guests.vga:draw", []) == {}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_trace_of_a_guest_that_failed_is_kept_as_far_as_it_came(
    tmp_path: Path, error: type[BaseException]
) -> None:
    target = tmp_path / "t"
    target.write_text("old")
    with pytest.raises(error), trace_file(target):
        raise error
    assert target.read_text() == "old", "it did nothing"

    def run() -> None:
        with trace_file(target) as trace:
            assert trace is not None
            trace.write("line\n")
            raise error

    with pytest.raises(error):
        run()
    assert target.read_text() == "line\n"
    assert [path.name for path in tmp_path.iterdir()] == ["t"]
