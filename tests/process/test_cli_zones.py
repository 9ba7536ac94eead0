"""Zones that the command line chooses: `--coalesce` and `--no-coalesce` with a range."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.vmm_cli import json_of, one_line, run

GUEST = """
def main(vcpu):
    for number in range(20):
        vcpu.store16(0xB8000 + 2 * number, number)
        vcpu.out8(0x3C8, number)
"""


@pytest.mark.parametrize(
    ("given", "queued"),
    [
        ((), 20),
        (("--coalesce", "pio:0x3c8+1"), 40),
        (("--coalesce", "pio:0x3c8+1", "--no-coalesce", "0xb8000+0x10"), 32),
        (("--no-coalesce", "--coalesce", "pio:0x3c8+1"), 20),
        (("--coalesce", "pio:0x3c8+1", "--no-coalesce", "pio:0x3c8+1"), 20),
    ],
)
def test_a_zone_is_tried_without_editing_the_device(
    tmp_path: Path, given: tuple[str, ...], queued: int
) -> None:
    (tmp_path / "guest.py").write_text(GUEST)
    found = json_of("run", *given, "guest.py:main", cwd=tmp_path)
    first = found["runs"][0]
    assert (first["coalesced"], first["exits"]) == (queued, 40 - queued + 1)
    assert found["identical"]


@pytest.mark.parametrize("command", [("demo", "vga"), ("run", "x.py:main"), ("replay", "boot")])
def test_a_range_that_is_none_is_one_line(tmp_path: Path, command: tuple[str, ...]) -> None:
    for option in ("--coalesce", "--no-coalesce"):
        said = one_line(run(*command, option, "0x10+0", cwd=tmp_path), 2)
        assert said.endswith(f"{option} 0x10+0: expected [pio:]ADDRESS+SIZE")
