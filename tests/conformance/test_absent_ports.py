"""Ports of QEMU's PC: what answers there and not here is in a list, and nothing else."""

from __future__ import annotations

import pytest
from conformance_script import RESET

from coalesced.vmm.absent import ABSENT_PORTS
from helpers.qtest_peer import coalesced, has_qemu, qemu

BACK_DOOR = 0x5658  # QEMU without a processor that runs ends at an access
CONFIGURATION = range(0xCF8, 0xD00)
CLOCK = range(0x70, 0x72)


def listed() -> set[int]:
    return {port for ports in ABSENT_PORTS for port in range(ports.first, ports.last + 1)}


def test_the_list_is_in_order_and_says_whose_the_ports_are() -> None:
    assert list(ABSENT_PORTS) == sorted(ABSENT_PORTS)
    assert len(listed()) == sum(ports.last - ports.first + 1 for ports in ABSENT_PORTS)
    assert all(ports.device for ports in ABSENT_PORTS)


def test_absent_ports_read_as_ones() -> None:
    with coalesced(()) as peer:
        replies = peer.ask_all(f"inb {port:#x}" for port in sorted(listed()))
    assert set(replies) == {"OK 0x00ff"}


@pytest.mark.skipif(not has_qemu(), reason="QEMU 7.2 is not installed")
def test_ports_that_read_otherwise_in_qemu_are_those_of_the_list() -> None:
    asked = [
        port
        for port in range(0x10000)
        if port not in CONFIGURATION and port not in CLOCK and port != BACK_DOOR
    ]
    commands = [f"inb {port:#x}" for port in asked]
    with qemu(()) as theirs, coalesced((), "--accel", "direct") as ours:
        assert ours.ask_all(["clock_step 0", RESET])[1] == "OK"  # QEMU's counters stand, too
        pairs = zip(asked, theirs.ask_all(commands), ours.ask_all(commands), strict=True)
        different = {port for port, reply, own in pairs if reply != own}
    assert different <= listed()
    assert not [
        ports
        for ports in ABSENT_PORTS
        if ports.first != BACK_DOOR and not different & {*range(ports.first, ports.last + 1)}
    ]
