"""Carrying scripts out: by QEMU, and by this program."""

from __future__ import annotations

from typing import Any

from conformance_script import RESET, Script

from helpers.qtest_network import Cable, converse, sleep, step
from helpers.qtest_peer import Peer, coalesced, qemu, result_of


def replies_of_qemu(script: Script) -> list[str]:
    """What QEMU replies now."""
    if not script.network:
        with qemu(script.devices) as peer:
            return ask_all(peer, script.lines())
    with Cable() as cable, qemu(script.devices, cable.netdev) as peer:
        return converse(peer, cable, script.lines(), sleep)


def ask_all(peer: Peer, commands: list[str]) -> list[str]:
    """All commands at once, but none behind a reset before its reply.

    QEMU resets the machine after the commands that came together with it.
    """
    replies: list[str] = []
    while commands:
        end = commands.index(RESET) + 1 if RESET in commands else len(commands)
        replies += peer.ask_all(commands[:end])
        commands = commands[end:]
    return replies


def replies_of_ours(
    script: Script, *options: str, together: bool = True
) -> tuple[list[str], dict[str, Any]]:
    """This program's replies, and its report; `together`: all commands are sent at once.

    As QEMU's, the clock stands still where there is no network.
    """
    commands = script.lines()
    if not script.network:
        with coalesced(script.devices, *options, "--json") as peer:
            step(peer, 0)
            replies = peer.ask_all(commands) if together else [*map(peer.ask, commands)]
            return replies, result_of(peer.end())
    with (
        Cable() as cable,
        coalesced(script.devices, "--netdev", cable.netdev, *options, "--json") as peer,
    ):
        replies = converse(peer, cable, commands, step, together)
        return replies, result_of(peer.end())
