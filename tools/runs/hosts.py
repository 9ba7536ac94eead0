"""A guest as a host on an IPv4 network: its card and its addresses."""

from __future__ import annotations

import ipaddress

from coalesced.tools.errors import BadInput
from coalesced.tools.runs import boards
from coalesced.tools.runs.options import NetworkOptions
from coalesced.vmm import pc
from coalesced.vmm.board import Board
from coalesced.vmm.machine import Machine
from coalesced.vmm.netdev import spec as specs


def ipv4(option: str, text: str) -> str:
    """The value of an option that is an IPv4 address, in its usual form. Raises BadInput."""
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError as error:
        raise BadInput(f"{option} {text}: expected an IPv4 address like 192.0.2.2") from error


def card(network: NetworkOptions) -> str:
    """The SPEC of an 82540EM in slot 3, on the first back end. Raises BadInput."""
    try:
        return f"e1000,addr=03.0,netdev={specs.parse(network.netdevs[0]).id}"
    except specs.NetdevError as error:
        raise BadInput(str(error)) from error


def board(machine: Machine, card: str, network: NetworkOptions) -> Board:
    """A PC with the card of that SPEC on the network. Raises BadInput."""
    return boards.board(machine, [card], pc.DEFAULT_MEMORY, network)
