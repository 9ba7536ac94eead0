"""Wrong usage of the network demonstration and benchmark: one line each."""

from __future__ import annotations

import pytest

from coalesced.tools import early
from helpers.command_line import status_of


def said(*arguments: str) -> str:
    """The one line about a command line that cannot be used."""
    lines: list[str] = []
    try:
        assert status_of(arguments, lines.append) == 2
    finally:
        early.close()
    (line,) = lines
    return line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--netdev", "tup,id=n0"], "unknown kind 'tup'"),
        (["--netdev", "dgram"], "expected id="),
        (["--netdev", "dgram,id=n0,local=127.0.0.1:1"], "expected remote="),
        (["--seconds", "1"], "--seconds 1: needs a --netdev"),
        (["--burst", "64"], "63"),
        (["--frames", "0"], "--frames"),
        (["--ip", "x", "--netdev", "dgram,id=n0"], "--ip x: expected an IPv4 address"),
        (["--pcap", "/nowhere/x.pcap"], "--pcap /nowhere/x.pcap"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(arguments: list[str], wanted: str) -> None:
    assert wanted in said("demo", "e1000", *arguments)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--iperf", "192.0.2.1"], "give both, or neither"),
        (["--netdev", "dgram,id=n0"], "give both, or neither"),
        (["--iperf", "192.0.2.1:x", "--netdev", "dgram,id=n0"], "expected a port"),
        (["--iperf", "localhost", "--netdev", "dgram,id=n0"], "expected an IPv4 address"),
        (["--iperf", "192.0.2.1", "--netdev", "dgram,id=n0", "--rate", "fast"], "--rate fast"),
    ],
)
def test_what_the_bench_cannot_do_is_said_in_one_line(arguments: list[str], wanted: str) -> None:
    assert wanted in said("bench", "e1000", *arguments)
