"""The DMA controllers, whose registers answer as QEMU 7.2's do."""

from __future__ import annotations

import pytest

from coalesced.devices.bus.address_space import AddressSpace
from coalesced.devices.i8237 import I8237


class Board:
    """The controllers at their ports."""

    def __init__(self) -> None:
        self.dma = I8237()
        self.ports = AddressSpace("ports", 1 << 16, 0xFF)
        for base, region, priority in self.dma.legacy_ports:
            self.ports.map(region, base, priority)

    def put(self, *pairs: tuple[int, int]) -> None:
        for port, value in pairs:
            self.ports.write(port, 1, value)

    def get(self, *ports: int) -> list[int]:
        return [self.ports.read(port, 1) for port in ports]


def test_at_power_on_all_channels_are_masked_and_the_rest_is_zero() -> None:
    board = Board()
    assert board.get(*range(16)) == [0xFF if port == 9 else 0 for port in range(16)]
    assert board.get(0xD2, 0xD3, 0x83, 0x8F, 0x80, 0x84) == [0xFF, 0xFF, 0, 0, 0xFF, 0xFF]


@pytest.mark.parametrize(("base", "step"), [(0x00, 1), (0xC0, 2)])
def test_addresses_and_counts_go_byte_by_byte(base: int, step: int) -> None:
    board = Board()
    for register in range(8):
        port = base + step * register
        board.put((port, 0x30 + register), (port, 0x50 + register))
        assert board.get(port, port, port) == [0x30 + register, 0x50 + register, 0x30 + register]
        board.put((base + step * 12, 0))  # the flip-flop, low byte first
        assert board.get(port) == [0x30 + register]
        board.put((base + step * 12, 0))


def test_masks_requests_and_clears() -> None:
    board = Board()
    board.put((0x0E, 0))
    assert board.get(9) == [0]
    board.put((0x0A, 0x06))
    assert board.get(9) == [4]
    board.put((0x0F, 0x5A), (0x09, 0x05))
    assert board.get(9, 8) == [0x5A, 0x20]
    board.put((0x0D, 0))
    assert board.get(9, 8) == [0xFF, 0]


def test_pages_are_those_of_the_channels_and_reset_keeps_them() -> None:
    board = Board()
    ports = (0x81, 0x82, 0x83, 0x87, 0x89, 0x8A, 0x8B, 0x8F)
    board.put(*((port, port) for port in ports), (0, 1), (0, 2))
    before = board.dma.state()
    board.dma.reset()
    assert board.get(*ports) == list(ports)
    assert board.get(0, 0, 9) == [1, 2, 0xFF]
    assert board.dma.state() == before
    board.put((0x0E, 0))
    assert board.dma.state() != before
