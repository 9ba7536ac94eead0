"""Files take their names when they are whole; what is no regular file is written to directly."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from coalesced.vmm.output import Output, TextOutput, own_descriptor, write_whole


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "t"
    target.write_bytes(b"old")
    out = Output(target)
    assert not out.size
    assert files(tmp_path) == ["t"], "nothing is opened before the first byte"
    out.write(b"new")
    out.write(b"er")
    assert target.read_bytes() == b"old"
    out.keep()
    out.discard()
    assert target.read_bytes() == b"newer"
    assert files(tmp_path) == ["t"]


def test_what_is_discarded_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "t"
    target.write_bytes(b"old")
    out = Output(target)
    out.write(b"new")
    out.discard()
    out.discard()
    assert target.read_bytes() == b"old"
    assert files(tmp_path) == ["t"]
    Output(tmp_path / "other").discard()
    assert files(tmp_path) == ["t"]


def test_ctrl_c_while_the_file_is_made_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def interrupted(*arguments: Any) -> int:
        os.close(opened(*arguments))
        raise KeyboardInterrupt

    output = Output(tmp_path / "out")
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", interrupted)
        with pytest.raises(KeyboardInterrupt):
            output.write(b"some")
    assert len(os.listdir(tmp_path)) == 1
    output.discard()
    assert os.listdir(tmp_path) == []


def test_what_is_kept_without_a_byte_is_an_empty_file(tmp_path: Path) -> None:
    out = Output(tmp_path / "t")
    out.keep()
    assert (tmp_path / "t").read_bytes() == b""


def test_permissions_are_those_of_the_old_file_or_of_any_new_one(tmp_path: Path) -> None:
    old, new, plain = tmp_path / "old", tmp_path / "new", tmp_path / "plain"
    old.write_bytes(b"")
    old.chmod(0o640)
    plain.write_bytes(b"")
    write_whole(old, b"x")
    write_whole(new, b"x")
    assert stat.S_IMODE(old.stat().st_mode) == 0o640
    assert new.stat().st_mode == plain.stat().st_mode


def test_a_symbolic_link_stays_one_wherever_it_leads(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "real").write_bytes(b"old")
    for name, leads_to in (("link", "folder/real"), ("dangling", "folder/new")):
        (tmp_path / name).symlink_to(leads_to)
        write_whole(tmp_path / name, b"text")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / leads_to).read_bytes() == b"text"
    assert files(folder) == ["new", "real"]


def test_a_fifo_gets_the_bytes_and_stays_one(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()))
    reader.start()
    write_whole(fifo, b"x" * 1_000_000)
    reader.join()
    assert got == [b"x" * 1_000_000]
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_dev_null_and_dev_full_are_written_to() -> None:
    write_whole(Path("/dev/null"), b"x")
    with pytest.raises(OSError, match="No space left"):
        write_whole(Path("/dev/full"), b"x")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


@pytest.mark.parametrize("form", ["/dev/fd/{}", "/proc/self/fd/{}", "link"])
def test_a_descriptor_of_this_process_is_written_to_where_it_stands(
    tmp_path: Path, form: str
) -> None:
    """A restart from the beginning would overwrite the file's contents."""
    with (tmp_path / "t").open("w+b", buffering=0) as file:
        file.write(b"before ")
        path = Path(form.format(file.fileno()))
        if form == "link":
            path = tmp_path / "link"
            path.symlink_to(f"/dev/fd/{file.fileno()}")
        assert own_descriptor(path) == file.fileno()
        write_whole(path, b"after")
        file.write(b"!")
    assert (tmp_path / "t").read_bytes() == b"before after!"
    assert own_descriptor(tmp_path / "t") is None


def test_a_folder_that_is_gone_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "no" / "t", b"x")
    assert files(tmp_path) == []


def test_a_disk_that_is_full_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_fd: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    (tmp_path / "t").write_bytes(b"old")
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "t", b"new")
    monkeypatch.undo()
    assert (tmp_path / "t").read_bytes() == b"old"
    assert files(tmp_path) == ["t"]


def test_text_gathers_and_arrives_in_order(tmp_path: Path) -> None:
    out = Output(tmp_path / "t")
    text = TextOutput(out)
    lines = [f"{number} \udcff\n" for number in range(3000)]
    for line in lines:
        text.write(line)
    text.flush()
    out.keep()
    expected = "".join(lines).encode(errors="backslashreplace")
    assert (tmp_path / "t").read_bytes() == expected


class Interrupting:
    """os.write as it is when Ctrl-C comes in some of its calls: some bytes, or all, are written."""

    def __init__(self, *written: int | None) -> None:
        """Of each call in turn: the bytes before Ctrl-C, -1 for all of them; None: no Ctrl-C."""
        self._written = list(written)
        self._write = os.write

    def __call__(self, fd: int, data: bytes) -> int:
        written = self._written.pop(0) if self._written else None
        if written is None:
            return self._write(fd, data)
        self._write(fd, data[: written if written >= 0 else len(data)])
        raise KeyboardInterrupt


class CtrlC:
    """Raises KeyboardInterrupt once, at a moment where Python lets it come, counted from 0: as a
    function begins, and behind each call."""

    def __init__(self, moment: int) -> None:
        self.left = moment

    def __call__(self, _frame: FrameType, event: str, _argument: object) -> None:
        if event in {"call", "return", "c_return"}:
            self.left -= 1
            if self.left == -1:
                raise KeyboardInterrupt


def test_text_is_written_once_wherever_ctrl_c_comes(tmp_path: Path) -> None:
    lines = [f"{number}\n" for number in range(3)]
    for moment in range(1000):
        target = tmp_path / f"{moment}"
        out, ctrl_c = Output(target), CtrlC(moment)
        out.write(b"")
        text = TextOutput(out)
        for line in lines:
            text.write(line)
            try:
                sys.setprofile(ctrl_c)
                text.flush()
            except KeyboardInterrupt:
                pass
            finally:
                sys.setprofile(None)
        text.flush()
        out.keep()
        assert target.read_text() == "".join(lines), moment
        assert files(tmp_path) == [f"{moment}"], moment
        target.unlink()
        if ctrl_c.left >= 0:  # it was over before that moment
            break
    assert 20 < moment < 999


@pytest.mark.parametrize("written", [0, 3, -1])
def test_text_whose_write_is_interrupted_is_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    out = Output(tmp_path / "t")
    text = TextOutput(out)
    monkeypatch.setattr(os, "write", Interrupting(None, written))
    for part in ("one\n", "two\n"):
        text.write(part)
        with contextlib.suppress(KeyboardInterrupt):
            text.flush()
    assert out.size == 4
    text.flush()
    out.keep()
    assert (tmp_path / "t").read_text() == "one\ntwo\n"


def test_text_whose_file_was_opened_when_ctrl_c_came_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def interrupted(*arguments: Any) -> int:
        monkeypatch.undo()
        os.close(opened(*arguments))
        raise KeyboardInterrupt

    out = Output(tmp_path / "t")
    text = TextOutput(out)
    text.write("all")
    monkeypatch.setattr(os, "open", interrupted)
    with pytest.raises(KeyboardInterrupt):
        text.flush()
    text.flush()
    out.keep()
    assert (tmp_path / "t").read_text() == "all"
    assert files(tmp_path) == ["t"]


def test_an_interrupted_write_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = Output(tmp_path / "t")
    out.write(b"whole")
    monkeypatch.setattr(os, "write", Interrupting(2))
    with pytest.raises(KeyboardInterrupt):
        out.write(b"half")
    out.keep()
    assert (tmp_path / "t").read_bytes() == b"whole"


def test_what_others_have_written_to_a_descriptor_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "log").open("a") as log:
        log.write("before")
        log.flush()
        out = Output(Path(f"/dev/fd/{log.fileno()}"))
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", Interrupting(2))
            with pytest.raises(KeyboardInterrupt):
                out.write(b"half")
        out.keep()
    assert (tmp_path / "log").read_text() == "beforeha"


KILLED = """
import os, signal, sys
from pathlib import Path
from coalesced.vmm.output import Output
Output(Path(sys.argv[1])).write(b"half")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    target = tmp_path / "t"
    subprocess.run([sys.executable, "-c", KILLED, target], check=False)
    (abandoned,) = files(tmp_path)
    gone = abandoned.split(".")[2].split("-")[0]
    (tmp_path / f".t.{gone}-00000000.part").symlink_to("elsewhere")
    os.mkfifo(tmp_path / f".t.{gone}-00000001.part")
    others = [f".other.{gone}-00000002.part", f".t.{gone}-2.part", ".t.99999999999-3.part.bak"]
    for name in others:
        (tmp_path / name).write_bytes(b"")
    before = files(tmp_path)
    write_whole(target, b"whole")
    assert {*files(tmp_path)} == {*before, "t"} - {abandoned}


def test_what_another_writer_has_not_finished_stays(tmp_path: Path) -> None:
    """One of this PID namespace, and one of another, whose number means nobody here."""
    target = tmp_path / "t"
    other = Output(target)
    other.write(b"other")
    (unfinished,) = files(tmp_path)
    ended = subprocess.Popen(["true"])
    ended.wait()
    with (tmp_path / f".t.{ended.pid}-12345678.part").open("w") as far:
        fcntl.flock(far, fcntl.LOCK_EX)
        write_whole(target, b"first")
        assert {*files(tmp_path)} == {unfinished, Path(far.name).name, "t"}
    write_whole(target, b"second")
    assert {*files(tmp_path)} == {unfinished, "t"}
    other.keep()
    assert target.read_bytes() == b"other"
