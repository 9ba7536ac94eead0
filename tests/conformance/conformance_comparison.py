"""Comparing replies with QEMU's recorded ones, and which scripts the short run takes for all."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from conformance_recorded import condensed
from conformance_recorded import read as read_recorded
from conformance_script import Script
from conformance_scripts import DIFFERENCES

# Of each chip, those that queue writes, move windows and wait for frames.
LIGHT = {
    "pci-bar-moves",
    "vga-queued-order",
    "cirrus-first-end",
    "cirrus-in-the-window",
    "e1000-registers",
    "e1000-both-ways",
}


def some_heavy(scripts: Iterable[Script]) -> pytest.MarkDecorator:
    """A parameter `script`: those that are not LIGHT are heavy."""
    values = [
        pytest.param(
            script, id=script.name, marks=[] if script.name in LIGHT else [pytest.mark.heavy]
        )
        for script in scripts
    ]
    return pytest.mark.parametrize("script", values)


def expected(script: Script, commands: list[str]) -> list[str]:
    """What QEMU replied, with our own replies where we differ on purpose."""
    replies = read_recorded(script, commands)
    for difference in DIFFERENCES:
        if difference.script == script.name:
            at = commands.index(difference.command)
            assert replies[at] == difference.theirs, difference
            replies[at] = difference.ours
    return replies


def compare(script: Script, commands: list[str], replies: list[str]) -> None:
    """Fail unless the replies of this program are the expected ones."""
    wrong = different(commands, replies, expected(script, commands))
    shown = "\n".join(wrong[:10])
    assert not wrong, f"{script.name}: {len(wrong)} replies differ from QEMU's:\n{shown}"


def different(commands: list[str], replies: list[str], wanted: list[str]) -> list[str]:
    """A line for each reply that is not the wanted one, which is condensed."""
    rows = enumerate(zip(commands, map(condensed, replies), wanted, strict=True))
    return [f"{i}: {row[0]}: {row[2]}, got {row[1]}" for i, row in rows if row[1] != row[2]]
