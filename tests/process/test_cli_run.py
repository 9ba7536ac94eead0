"""`coalesced run`: a user's own guest, and everything that may be wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.vmm_cli import json_of, one_line, run

GUESTS = '''\
"""Guests of a user."""
import os
import signal
import sys

def draw(vcpu):
    vcpu.out16(0x3c4, 0x0f02)
    for i in range(500):
        vcpu.store8(0xa0000 + i, i)
    assert vcpu.load8(0xa0001) in range(256)
    vcpu.store32(0x200000, 0xdeadbeef)

def raises(vcpu):
    values = {}
    vcpu.store8(0xa0000, 1)
    return values["nothing"]

def bad_access(vcpu):
    vcpu.in16(0xffff)

def several_lines(vcpu):
    raise ValueError("one\\n  two")

def prints(vcpu):
    print("guest speaking")
    vcpu.store8(0xa0000, 1)

def exits(vcpu):
    sys.exit(0)

def exits_hard(vcpu):
    os._exit(0)

def kills(vcpu):
    os.kill(os.getpid(), signal.SIGKILL)

def collects(vcpu):
    import gc
    print(gc.isenabled())
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "guest.py").write_text(GUESTS)
    return tmp_path


BOTH = pytest.mark.parametrize("accel", ["process", "direct"])


def test_a_guest_of_ten_lines_runs_in_every_way_to_the_same_state(folder: Path) -> None:
    result = json_of("run", "guest.py:draw", "--png", "screen.png", cwd=folder)
    first, plain, direct = result["runs"]
    assert result["identical"] is True
    assert result["guest"].endswith("guest.py:draw")
    assert first["writes"] == plain["writes"] == direct["writes"] == 501
    assert first["exits_by"] == {
        "load": 1, "pio": 1, "no_zone": 0, "straddle": 0, "ring_full": 2, "hlt": 1
    }  # fmt: skip
    assert first["coalesced"] == 498
    assert plain["exits"] == 503
    assert (folder / "screen.png").read_bytes().startswith(b"\x89PNG")


def test_a_guest_may_lie_in_another_folder_and_import_its_neighbours(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "neighbour.py").write_text("VALUE = 7\n")
    (folder / "sub" / "g.py").write_text(
        "import neighbour\ndef main(vcpu):\n    vcpu.store8(0, neighbour.VALUE)\n"
    )
    assert json_of("run", "sub/g.py:main", cwd=folder)["identical"]


def test_modules_of_the_working_directory_stay_out(folder: Path) -> None:
    (folder / "numpy.py").write_text("raise SystemExit('the wrong numpy')\n")
    (folder / "sub").mkdir()
    (folder / "sub" / "g.py").write_text("def main(vcpu):\n    vcpu.store8(0, 1)\n")
    assert json_of("run", "sub/g.py:main", cwd=folder)["identical"]


@BOTH
def test_a_guest_that_raises_is_told_by_file_line_and_error(folder: Path, accel: str) -> None:
    said = one_line(run("run", "guest.py:raises", "--accel", accel, cwd=folder), 1)
    assert said == f"{folder}/guest.py:16: KeyError: 'nothing'"


@BOTH
def test_an_access_that_no_processor_makes_is_told_by_the_guests_line(
    folder: Path, accel: str
) -> None:
    said = one_line(run("run", "guest.py:bad_access", "--accel", accel, cwd=folder), 1)
    assert said == (
        f"{folder}/guest.py:19: GuestError: in of 2 bytes at 0xffff: expected ports of 0 to 0xffff"
    )


LIBRARIES = """\
import json
from concurrent.futures import Future

import neighbour
from coalesced.tools.guests import vga

class Silent(Exception):
    def __str__(self):
        raise ValueError("no words")

def standard(vcpu):
    json.loads("nope")

def ours(vcpu):
    vga.draw(None)

def own_module(vcpu):
    neighbour.broken()

def own_syntax(vcpu):
    import unreadable

def speechless(vcpu):
    raise Silent
"""


@BOTH
@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("standard", "guest.py:12: JSONDecodeError: Expecting value: line 1 column 1 (char 0)"),
        ("ours", "guest.py:15: AttributeError: 'NoneType' object has no attribute 'out8'"),
        ("own_module", "neighbour.py:2: ZeroDivisionError: division by zero"),
        (
            "own_syntax",
            "unreadable.py:1: SyntaxError: '(' was never closed (unreadable.py, line 1)",
        ),
        ("speechless", "guest.py:24: Silent: its text cannot be read: ValueError"),
    ],
)
def test_an_error_deep_in_a_library_is_told_by_the_innermost_line_of_the_users_own(
    tmp_path: Path, accel: str, function: str, said: str
) -> None:
    (tmp_path / "guest.py").write_text(LIBRARIES)
    (tmp_path / "neighbour.py").write_text("def broken():\n    1 / 0\n")
    (tmp_path / "unreadable.py").write_text("x = (\n")
    done = run("run", f"guest.py:{function}", "--accel", accel, cwd=tmp_path)
    assert one_line(done, 1) == f"{tmp_path}/{said}"


@BOTH
def test_all_frames_of_an_error_are_shown_on_request(tmp_path: Path, accel: str) -> None:
    (tmp_path / "guest.py").write_text(LIBRARIES)
    (tmp_path / "neighbour.py").touch()
    done = run("run", "guest.py:standard", "--accel", accel, "--traceback", cwd=tmp_path)
    assert done.returncode == 1
    *frames, line = done.stderr.splitlines()
    assert frames[0] == "Traceback (most recent call last):"
    assert any("json/decoder.py" in frame for frame in frames)
    assert f'  File "{tmp_path}/guest.py", line 12, in standard' in frames
    assert line.startswith(f"coalesced: {tmp_path}/guest.py:12: JSONDecodeError: ")


def test_all_frames_of_a_guest_that_cannot_be_imported_are_shown_on_request(tmp_path: Path) -> None:
    (tmp_path / "guest.py").write_text("import json\njson.loads('nope')\n")
    done = run("run", "guest.py:main", "--traceback", cwd=tmp_path)
    assert done.returncode == 2
    assert "json/decoder.py" in done.stderr
    said = done.stderr.splitlines()[-1]
    assert said.startswith(f"coalesced: guest {tmp_path}/guest.py: line 2: JSONDecodeError: ")


@BOTH
def test_an_error_of_several_lines_comes_on_one(folder: Path, accel: str) -> None:
    said = one_line(run("run", "guest.py:several_lines", "--accel", accel, cwd=folder), 1)
    assert said.endswith("guest.py:22: ValueError: one two")


@BOTH
def test_what_a_guest_prints_goes_to_stderr(folder: Path, accel: str) -> None:
    done = run("run", "guest.py:prints", "--accel", accel, "--json", cwd=folder)
    assert done.returncode == 0
    assert json.loads(done.stdout)["identical"]
    runs = 3 if accel == "process" else 1
    assert done.stderr == "guest speaking\n" * runs


@BOTH
def test_garbage_is_collected_while_a_guest_runs(folder: Path, accel: str) -> None:
    done = run("run", "guest.py:collects", "--accel", accel, cwd=folder)
    assert set(done.stderr.split()) == {"True"}


DEVICES = """
import sys
from coalesced.devices.bus.pci import Bar, PciFunction
from coalesced.devices.bus.region import Region

class Card(PciFunction):
    def __init__(self):
        self.told = 0
        super().__init__(name="card", vendor_id=1, device_id=1, class_code=0xff0000,
                         bars={0: Bar(Region("card", 4096, self.read, self.write))})
    def read(self, offset, size):
        return 0
    def write(self, offset, size, value):
        pass

class Prints(Card):
    def write(self, offset, size, value):
        print("the device speaks")

class Exits(Card):
    def write(self, offset, size, value):
        sys.exit(0)

class Late(Card):
    def state(self):
        self.told += 1
        return {"told": self.told} if self.told < 2 else [1]

class Number(Card):
    def state(self):
        return {1: 2}

class Dark(Card):
    def render(self):
        raise ValueError("no light")

def main(vcpu):
    vcpu.out32(0xcf8, 0x80000000 | 5 << 11 | 0x10)
    vcpu.out32(0xcfc, 0xe0000000)
    vcpu.out32(0xcf8, 0x80000000 | 5 << 11 | 0x04)
    vcpu.out16(0xcfc, 2)
    vcpu.store32(0xe0000000, 7)
"""


@BOTH
@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("Late", "device card: state(): TypeError: expected a dict, got list"),
        ("Number", "Number.state(): expected names as keys, got 1"),
        ("Dark", "devs.py:35: ValueError: no light"),
    ],
)
def test_a_device_that_goes_wrong_is_told_of_in_one_line(
    folder: Path, accel: str, device: str, said: str
) -> None:
    (folder / "devs.py").write_text(DEVICES)
    spec = f"devs.py:{device},addr=05.0"
    done = run("run", "devs.py:main", "--device", spec, "--accel", accel, cwd=folder)
    assert said in one_line(done, 2 if device == "Number" else 1)


@BOTH
def test_what_a_device_prints_goes_to_stderr_and_its_exit_ends_nothing(
    folder: Path, accel: str
) -> None:
    (folder / "devs.py").write_text(DEVICES)
    arguments = ("run", "devs.py:main", "--json", "--accel", accel, "--device")
    done = run(*arguments, "devs.py:Prints,addr=05.0", cwd=folder)
    runs = json.loads(done.stdout)["runs"]
    assert done.stderr == "the device speaks\n" * len(runs)
    done = run(*arguments, "devs.py:Exits,addr=05.0", cwd=folder)
    assert all("SystemExit: 0" in one["failures"][0] for one in json.loads(done.stdout)["runs"])


@BOTH
def test_a_guest_that_exits_is_a_guest_that_failed(folder: Path, accel: str) -> None:
    said = one_line(run("run", "guest.py:exits", "--accel", accel, "--json", cwd=folder), 1)
    assert said == f"{folder}/guest.py:29: SystemExit: 0"


def test_a_guest_process_that_ends_is_told_with_its_status(folder: Path) -> None:
    said = one_line(run("run", "guest.py:exits_hard", cwd=folder), 1)
    assert said == "the guest process ended: exit status 0"


def test_a_guest_process_that_kills_itself_is_told_with_the_signal(folder: Path) -> None:
    said = one_line(run("run", "guest.py:kills", cwd=folder), 1)
    assert said == "the guest process ended: killed by SIGKILL"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing.py:main", "guest {folder}/nothing.py: no such file"),
        ("guest.py:nobody", "guest {folder}/guest.py: it has no function 'nobody'"),
        ("syntax.py:main", "guest {folder}/syntax.py: line 2: SyntaxError: "),
        ("leaves.py:main", "guest {folder}/leaves.py: line 1: SystemExit: 3"),
    ],
)
def test_a_guest_that_is_not_there_is_wrong_usage(folder: Path, name: str, message: str) -> None:
    (folder / "syntax.py").write_text("def main(vcpu):\n    return (\n")
    (folder / "leaves.py").write_text("raise SystemExit(3)\n")
    said = one_line(run("run", name, cwd=folder), 2)
    assert said.startswith(message.format(folder=folder))
