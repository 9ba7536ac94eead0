"""Programs in assembly run by QEMU's own translation, without a kernel's help."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from coalesced.tools.boot import start
from helpers.machine_code import CODE

PROGRAM = "qemu-system-x86_64"
needs_qemu = pytest.mark.skipif(shutil.which(PROGRAM) is None, reason="no QEMU on this machine")


def _answer(qemu: subprocess.Popen[str]) -> str:
    """What the monitor says up to its next prompt."""
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


def results_in_qemu(code: bytes, folder: Path, at: int, count: int) -> list[int]:
    """The 32-bit words at an address when the program at CODE has halted."""
    (folder / "rom").write_bytes(start.real_mode(CODE))
    (folder / "program").write_bytes(code)
    arguments = ["-accel", "tcg", "-display", "none", "-nodefaults", "-monitor", "stdio", "-m", "4"]
    loaded = f"loader,file={folder / 'program'},addr={CODE:#x},force-raw=on"
    with subprocess.Popen(
        [PROGRAM, *arguments, "-no-reboot", "-bios", folder / "rom", "-device", loaded],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as qemu:
        try:
            _answer(qemu)
            while "HLT=1" not in _ask(qemu, "info registers"):
                pass
            _ask(qemu, f'pmemsave {at} {4 * count} "{folder / "words"}"')
        finally:
            qemu.kill()
    data = (folder / "words").read_bytes()
    return [int.from_bytes(data[n : n + 4], "little") for n in range(0, len(data), 4)]
