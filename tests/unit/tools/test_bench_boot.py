"""`bench boot`: its figures, and runs without firmware, Unicorn or QEMU."""

from __future__ import annotations

import math

import pytest

from coalesced.tools.bench import boot, machine_code, qemu
from coalesced.tools.runs import firmware


def test_the_time_runs_from_the_first_message_to_the_prompt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    console = boot.Console()
    for number, (data, ended) in enumerate(
        (
            (b"SeaB", False),
            (b"IOS (version 1)\n", False),
            (b"No bootable", False),
            (b" device", True),
        )
    ):
        monkeypatch.setattr("time.monotonic_ns", lambda now=number: now * 1_000_000)
        assert console.add(data) is ended
    assert console.milliseconds == 2


def test_what_is_missing_is_named_and_nothing_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> float:
        raise qemu.Unusable("no QEMU")

    monkeypatch.setattr(machine_code, "why_not", lambda: "no Unicorn")
    monkeypatch.setattr(boot, "in_qemu", refuse)
    section = boot.measure(1, lambda: None)
    if firmware.find(firmware.BIOS) is not None:
        assert section.missing == {"two processes": "no Unicorn", boot.IN_QEMU: "no QEMU"}
    monkeypatch.setattr(firmware, "find", lambda _name: None)
    assert boot.measure(1, lambda: None).missing == {"SeaBIOS": "apt install seabios"}
    assert all(math.isnan(row.figure.median) for row in section.rows)


@pytest.mark.heavy
@pytest.mark.skipif(firmware.find(firmware.BIOS) is None, reason="no SeaBIOS on this machine")
@pytest.mark.skipif(bool(machine_code.why_not()), reason="unicorn comes with the extra [cpu]")
def test_seabios_comes_to_its_prompt_in_all_of_them() -> None:
    steps: list[None] = []
    section = boot.measure(1, lambda: steps.append(None))
    measured = [row.figure.median for row in section.rows if not math.isnan(row.figure.median)]
    assert len(measured) == len(section.rows) - len(section.missing) >= 2
    assert len(steps) == 2 * len(measured)
    assert min(measured) > 1
