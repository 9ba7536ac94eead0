"""Nothing that a guest, a device or a trace says reaches the terminal as a control sequence."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.vmm_cli import run

GUEST = """
import sys
ESCAPE = "\\x1b]0;owned\\x07"

def prints(vcpu):
    print("said", ESCAPE)
    print("complained", ESCAPE, file=sys.stderr)

def fails(vcpu):
    raise ValueError("no " + ESCAPE)

def draws(vcpu):
    for index, character in enumerate(ESCAPE):
        vcpu.store16(0xB8000 + 2 * index, 0x0700 | ord(character))
"""


def clean(text: str) -> bool:
    return all(c.isprintable() or c in "\n\t" for c in text)


@pytest.mark.parametrize("accel", ["process", "direct"])
def test_what_a_guest_prints_is_text(tmp_path: Path, accel: str) -> None:
    (tmp_path / "guest.py").write_text(GUEST)
    done = run("run", "guest.py:prints", "--accel", accel, cwd=tmp_path)
    assert done.returncode == 0
    said = [line for line in done.stderr.splitlines() if line.startswith("said")]
    assert set(said) == {"said \\x1b]0;owned\\x07"}


def test_what_a_guest_complains_of_in_its_process_is_text(tmp_path: Path) -> None:
    (tmp_path / "guest.py").write_text(GUEST + "\n\ndef main(vcpu):\n    prints(vcpu)\n    1 / 0\n")
    done = run("run", "guest.py:main", cwd=tmp_path)
    assert "complained \\x1b]0;owned\\x07" in done.stderr
    assert clean(done.stderr)


@pytest.mark.parametrize("accel", ["process", "direct"])
def test_what_a_guest_raises_is_text(tmp_path: Path, accel: str) -> None:
    (tmp_path / "guest.py").write_text(GUEST)
    done = run("run", "guest.py:fails", "--accel", accel, cwd=tmp_path)
    assert done.returncode == 1
    assert "no \\x1b]0;owned\\x07" in done.stderr
    assert clean(done.stderr + done.stdout)


def test_names_and_lines_of_a_trace_are_text(tmp_path: Path) -> None:
    line = "memory_region_ops_read cpu 0 mr 0x9 addr 0x60 value 0x55 size 1 name '{}'\n"
    text = line.format("a\x1b[31mred\x9b") + "\x1b[2Jwarning\n" + line.format("\u202ename")
    (tmp_path / "t\x1b[1m").write_text(text)
    done = run("replay", "t\x1b[1m", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert clean(done.stdout + done.stderr)
    assert "warning" in done.stdout
    (tmp_path / "t\x1b[1m").write_text("nothing")
    done = run("replay", "t\x1b[1m", cwd=tmp_path)
    assert done.returncode == 2
    assert clean(done.stderr)


def test_a_text_screen_is_text(tmp_path: Path) -> None:
    (tmp_path / "guest.py").write_text(GUEST)
    assert run("run", "guest.py:draws", "--trace", "t", cwd=tmp_path).returncode == 0
    done = run("replay", "t", "--text", cwd=tmp_path)
    assert done.returncode == 0
    assert clean(done.stdout)
