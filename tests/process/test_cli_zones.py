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


def test_each_device_may_have_a_ring_of_its_own(tmp_path: Path) -> None:
    """The exits to ports of the VGA drain its own ring; the runs end in the same state."""
    (tmp_path / "guest.py").write_text(GUEST)
    for rings, names in (("vm", ["vm"]), ("device", ["vm", "i440FX", "mc146818rtc", "VGA"])):
        found = json_of("run", "guest.py:main", "--rings", rings, cwd=tmp_path)
        first = found["runs"][0]
        assert [ring["name"] for ring in first["rings"]] == names
        assert [ring["coalesced"] for ring in first["rings"]] == [0] * (len(names) - 1) + [20]
        assert first["rings"][-1]["drains"] == 20
        assert first["rings"][-1]["wait_us"]["max"] > 0
        assert found["identical"]
    told = run("run", "guest.py:main", "--rings", "device", cwd=tmp_path).stdout
    assert "Writes in drains, by ring: vm 0 in 0; " in told
    assert "VGA 20 in 20, waited up to " in told


@pytest.mark.parametrize("accel", ["kvm", "direct"])
def test_an_accelerator_without_rings_of_devices_own_says_so(tmp_path: Path, accel: str) -> None:
    said = one_line(run("demo", "vga", "--rings", "device", "--accel", accel, cwd=tmp_path), 2)
    assert said.endswith(f"--rings device: --accel {accel} has no rings of devices' own")


@pytest.mark.parametrize("command", [("demo", "vga"), ("run", "x.py:main"), ("replay", "boot")])
def test_a_range_that_is_none_is_one_line(tmp_path: Path, command: tuple[str, ...]) -> None:
    for option in ("--coalesce", "--no-coalesce"):
        said = one_line(run(*command, option, "0x10+0", cwd=tmp_path), 2)
        assert said.endswith(f"{option} 0x10+0: expected [pio:]ADDRESS+SIZE")
