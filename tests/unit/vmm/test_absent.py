"""Ports that a PC has and this machine lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from coalesced.vmm.absent import ABSENT_PORTS, device_at

DOCUMENT = Path(__file__).parents[3] / "docs" / "guides" / "qemu.md"


@pytest.mark.parametrize(
    ("port", "device"),
    [(0x3F0, None), (0x3F1, "floppy"), (0x3F5, "floppy"), (0x375, None), (0xB13F, "SMBus")],
)
def test_a_port_is_that_of_the_device_whose_range_holds_it(port: int, device: str | None) -> None:
    found = device_at(port)
    assert found is None if device is None else found and device in found


def test_the_document_lists_them() -> None:
    rows = [
        f"| {each.first:#x}{f'-{each.last:#x}' if each.last > each.first else ''} | {each.device} |"
        for each in ABSENT_PORTS
    ]
    lines = DOCUMENT.read_text().splitlines()
    assert [line for line in lines if line.startswith("| 0x")] == rows
