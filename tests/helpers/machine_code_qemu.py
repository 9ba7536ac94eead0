"""Programs in assembly run by QEMU's own translation, without a kernel's help."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coalesced.tools.boot import start
from helpers.machine_code import CODE

_SCREEN, _COLUMNS, _ROWS = 0xB8000, 80, 25
PROGRAM = "qemu-system-x86_64"
needs_qemu = pytest.mark.skipif(shutil.which(PROGRAM) is None, reason="no QEMU on this machine")


def _answer(qemu: subprocess.Popen[str]) -> str:
    """The monitor's output up to its next prompt."""
    assert qemu.stdout is not None
    answer = ""
    while not answer.endswith("(qemu) "):
        character = qemu.stdout.read(1)
        assert character, answer
        answer += character
    return answer


def _ask(qemu: subprocess.Popen[str], command: str) -> str:
    assert qemu.stdin is not None
    qemu.stdin.write(command + "\n")
    qemu.stdin.flush()
    return _answer(qemu)


@contextmanager
def _running(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A PC without a display, at the first prompt of its monitor."""
    with subprocess.Popen(
        [PROGRAM, "-accel", "tcg", "-display", "none", "-monitor", "stdio", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as qemu:
        try:
            _answer(qemu)
            yield qemu
        finally:
            qemu.kill()


def _memory(qemu: subprocess.Popen[str], folder: Path, at: int, size: int) -> bytes:
    _ask(qemu, f'pmemsave {at} {size} "{folder / "memory"}"')
    return (folder / "memory").read_bytes()


def results_in_qemu(code: bytes, folder: Path, at: int, count: int) -> list[int]:
    """The 32-bit words at an address when the program at CODE has halted."""
    (folder / "rom").write_bytes(start.real_mode(CODE))
    (folder / "program").write_bytes(code)
    loaded = f"loader,file={folder / 'program'},addr={CODE:#x},force-raw=on"
    machine = ("-nodefaults", "-m", "4", "-no-reboot", "-bios", folder / "rom", "-device", loaded)
    with _running(*machine) as qemu:
        while "HLT=1" not in _ask(qemu, "info registers"):
            pass
        data = _memory(qemu, folder, at, 4 * count)
    return [int.from_bytes(data[n : n + 4], "little") for n in range(0, len(data), 4)]


def screen_in_qemu(floppy: str, folder: Path, awaited: str) -> list[str]:
    """The text screen of a PC that boots a floppy, as soon as it shows a text."""
    with _running("-m", "64", "-drive", f"if=floppy,format=raw,readonly=on,file={floppy}") as qemu:
        while True:
            characters = _memory(qemu, folder, _SCREEN, 2 * _COLUMNS * _ROWS)[::2]
            text = characters.decode("cp437")
            if awaited in text:
                return [text[at : at + _COLUMNS] for at in range(0, len(text), _COLUMNS)]
