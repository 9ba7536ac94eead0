"""Programs of the distribution on the machine: memtest86+ and GRUB's rescue floppy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coalesced.tools.boot import linux
from coalesced.tools.runs import firmware
from helpers.machine_code import needs_unicorn
from helpers.machine_code_qemu import needs_qemu, screen_in_qemu
from helpers.vmm_cli import json_of, one_line, run

MEMTEST = Path("/boot/memtest86+ia32.bin")
GRUB = Path("/usr/lib/grub-rescue/grub-rescue-floppy.img")
LAST_LINE = "The highlighted entry will be executed automatically in"
pytestmark = [
    needs_unicorn,
    pytest.mark.skipif(firmware.find(firmware.BIOS) is None, reason="no SeaBIOS"),
]
needs_memtest = pytest.mark.skipif(
    not MEMTEST.exists() or firmware.find(linux.ROM) is None,
    reason="no memtest86+, or no linuxboot_dma.bin (apt install memtest86+ qemu-system-data)",
)


@pytest.mark.heavy
@needs_memtest
def test_memtest_draws_its_screen_and_tests_memory_without_an_error(tmp_path: Path) -> None:
    # MEMTEST_UNTIL="Pass:  1" for a whole pass, some ten minutes.
    options = ("--memory", "8M", "--until", os.environ.get("MEMTEST_UNTIL", "Test #2"))
    found = json_of("boot", MEMTEST, *options, "--serial", "stdio", cwd=tmp_path)
    lines = found["text"].splitlines()
    assert "Memtest86+ v6" in lines[0]
    assert any("Errors: 0 " in line + " " for line in lines)


@pytest.mark.heavy
@needs_qemu
@pytest.mark.skipif(not GRUB.exists(), reason="no rescue floppy (apt install grub-rescue-pc)")
def test_grub_shows_its_menu_as_in_qemu(tmp_path: Path) -> None:
    options = ("--memory", "64M", "--until", LAST_LINE, "--serial", "stdio")
    found = json_of("boot", GRUB, *options, cwd=tmp_path)
    expected = [line.rstrip() for line in screen_in_qemu(str(GRUB), tmp_path, LAST_LINE)]
    menu = [line for line in expected if "│" in line]
    assert len(menu) > 10
    assert [line for line in found["text"].splitlines() if "│" in line] == menu


@needs_memtest
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([MEMTEST, "--bios", "none"], "this kernel needs a BIOS: omit --bios none"),
        ([MEMTEST, "--append", "é"], "--append: expected less than 2048 characters of ASCII"),
        (["plasma", "--append", "quiet"], "plasma is not a kernel with Linux's boot protocol"),
    ],
)
def test_wrong_usage_of_kernels_is_one_line(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    assert said in one_line(run("boot", *arguments, cwd=tmp_path), 2)
