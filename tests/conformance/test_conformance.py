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
ATTEMPTS = 5  # where QEMU's clock runs, and the host may be busy
LOCK_STEP_MOST = 1500  # commands of a script that is also run one by one

scripts = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)


def is_asked(script: Script) -> bool:
    """Whether QEMU is asked now: its replies to a script that waits depend on the host's load."""
    return REFERENCE_IS_HERE and not script.network


def expected(script: Script, commands: list[str]) -> list[str]:
    """What QEMU replies, or replied, with our own replies where we differ on purpose."""
    asked = is_asked(script)
    replies = list(replies_of_qemu(script)) if asked else read_recorded(script, commands)
    for difference in DIFFERENCES:
        if difference.script == script.name:
            at = commands.index(difference.command)
            assert replies[at] == difference.theirs, difference
            replies[at] = difference.ours
    return replies


def compare(script: Script, commands: list[str], replies: list[str]) -> None:
    wanted = expected(script, commands)
    if not is_asked(script):
        replies = list(map(condensed, replies))
        wanted = list(map(condensed, wanted))
    wrong = different(commands, replies, wanted)
    shown = "\n".join(wrong[:10])
    assert not wrong, f"{script.name}: {len(wrong)} replies differ from QEMU's:\n{shown}"


def different(commands: list[str], replies: list[str], wanted: list[str]) -> list[str]:
    """A line for each reply that is not the wanted one."""
    rows = enumerate(zip(commands, replies, wanted, strict=True))
    return [f"{i}: {row[0]}: {row[2]}, got {row[1]}" for i, row in rows if row[1] != row[2]]


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
    if not REFERENCE_IS_HERE:
        return
    for _ in range(ATTEMPTS if script.network else 1):
        wrong = different(commands, list(map(condensed, replies_of_qemu(script))), recorded)
        if not wrong:
            return
        replies_of_qemu.cache_clear()
    pytest.fail("\n".join(wrong[:10]))


def test_the_rings_are_used() -> None:
    """The scripts that are about queued writes do queue them."""
    script = next(script for script in SCRIPTS if script.name == "pci-bar-moves")
    assert replies_of_ours(script)[1]["coalesced"] > 200
