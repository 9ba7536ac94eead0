"""Every script gives QEMU's replies: coalesced, with every write an exit, and in one process."""

from __future__ import annotations

import pytest
from conformance_comparison import compare, some_heavy
from conformance_reference import replies_of_ours
from conformance_script import Script
from conformance_scripts import SCRIPTS

from helpers.qtest_peer import MODES

SLEEP = ("--wait", "block")  # each side leaves its CPU to others; to spin would cost as much again


def check(script: Script, mode: str, *options: str) -> None:
    commands = script.lines()
    replies, result = replies_of_ours(script, *MODES[mode], *options)
    compare(script, commands, replies)
    if not script.network:
        assert result["commands"] == len(commands) + 1  # before them, the clock is stopped
    assert result["failed_writes"] == 0
    if mode != "coalesced":
        assert result["coalesced"] == 0


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_replies_are_those_of_qemu(script: Script) -> None:
    check(script, "coalesced", *SLEEP)


@some_heavy(SCRIPTS)
def test_replies_are_those_of_qemu_where_both_sides_spin_for_a_while(script: Script) -> None:
    check(script, "coalesced")


@some_heavy(SCRIPTS)
def test_replies_are_those_of_qemu_in_one_process(script: Script) -> None:
    check(script, "direct")


# With a wire it is the frames that count, and they exit anyway.
@some_heavy(script for script in SCRIPTS if not script.network)
def test_replies_are_those_of_qemu_where_every_write_exits(script: Script) -> None:
    check(script, "uncoalesced", *SLEEP)


def test_the_rings_are_used() -> None:
    """The scripts that are about queued writes do queue them."""
    script = next(script for script in SCRIPTS if script.name == "pci-bar-moves")
    assert replies_of_ours(script, *SLEEP)[1]["coalesced"] > 200
