"""Every script gives QEMU's replies: coalesced, with every write an exit, and in one process."""

from __future__ import annotations

import pytest
from conformance_recorded import condensed
from conformance_recorded import read as read_recorded
from conformance_reference import replies_of_ours, replies_of_qemu
from conformance_script import Script
from conformance_scripts import DIFFERENCES, SCRIPTS

from helpers.qtest_peer import MODES, has_qemu

REFERENCE_IS_HERE = has_qemu()
LOCK_STEP_MOST = 1500  # commands of a script that is also run one by one

scripts = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)


def expected(script: Script, commands: list[str]) -> list[str]:
    """What QEMU replies, or replied, with our own replies where we differ on purpose."""
    if REFERENCE_IS_HERE:
        replies = list(replies_of_qemu(script))
    else:
        replies = read_recorded(script, commands)
    for difference in DIFFERENCES:
        if difference.script == script.name:
            at = commands.index(difference.command)
            assert replies[at] == difference.theirs, difference
            replies[at] = difference.ours
    return replies


def compare(script: Script, commands: list[str], replies: list[str]) -> None:
    wanted = expected(script, commands)
    if not REFERENCE_IS_HERE:
        replies = list(map(condensed, replies))
        wanted = list(map(condensed, wanted))
    wrong = [i for i, pair in enumerate(zip(wanted, replies, strict=True)) if pair[0] != pair[1]]
    shown = "\n".join(f"{i}: {commands[i]}: {wanted[i]}, got {replies[i]}" for i in wrong[:10])
    assert not wrong, f"{script.name}: {len(wrong)} replies differ from QEMU's:\n{shown}"


@pytest.mark.parametrize(
    ("script", "mode"),
    [
        pytest.param(script, mode, id=f"{mode}-{script.name}")
        for mode in MODES
        for script in SCRIPTS
        # With a wire it is the frames that count, and they exit anyway.
        if not (script.network and mode == "uncoalesced")
    ],
)
def test_replies_are_those_of_qemu(script: Script, mode: str) -> None:
    commands = script.lines()
    replies, result = replies_of_ours(script, *MODES[mode])
    compare(script, commands, replies)
    if not script.network:
        assert result["commands"] == len(commands)
    assert result["failed_writes"] == 0
    if mode != "coalesced":
        assert result["coalesced"] == 0


@pytest.mark.parametrize(
    "script",
    [script for script in SCRIPTS if len(script.lines()) <= LOCK_STEP_MOST],
    ids=lambda script: script.name,
)
def test_replies_are_those_of_qemu_one_by_one(script: Script) -> None:
    """No reply depends on what came in with it, or on when queued writes are carried out."""
    commands = script.lines()
    replies, _ = replies_of_ours(script, "--staleness", "off", together=False)
    compare(script, commands, replies)


@scripts
def test_recordings_are_of_these_scripts(script: Script) -> None:
    commands = script.lines()
    recorded = read_recorded(script, commands)
    if REFERENCE_IS_HERE:
        assert recorded == list(map(condensed, replies_of_qemu(script)))


def test_the_rings_are_used() -> None:
    """The scripts that are about queued writes do queue them."""
    script = next(script for script in SCRIPTS if script.name == "pci-bar-moves")
    assert replies_of_ours(script)[1]["coalesced"] > 200
