"""Interrupt lines report changes, and nothing else."""

from __future__ import annotations

from coalesced.devices.bus.device import InterruptLine


def test_a_line_tells_of_each_change_once() -> None:
    heard: list[tuple[int, bool]] = []
    line = InterruptLine(11, lambda number, level: heard.append((number, level)))
    for level in (False, True, True, False, False, True):
        line.set(level)
        assert line.level is level
    assert heard == [(11, True), (11, False), (11, True)]
