"""fw_cfg: keys and files, read by port and by DMA."""

from __future__ import annotations

import struct

import pytest

from coalesced.devices.fw_cfg import FwCfg
from coalesced.vmm.accel.direct import DirectAccelerator
from coalesced.vmm.machine import Machine
from coalesced.vmm.pc import add_ram

SIZE = 2 << 20
REQUEST = 0x8000
HOLE = 0x400_0000


class Board:
    def __init__(self) -> None:
        self.machine = Machine(DirectAccelerator())
        add_ram(self.machine, SIZE)
        self.fw_cfg = FwCfg(self.machine.dma, SIZE)
        for base, region, priority in self.fw_cfg.legacy_ports:
            self.machine.ports.map(region, base, priority)

    def select(self, key: int) -> None:
        self.machine.ports.write(0x510, 2, key)

    def read(self, count: int) -> bytes:
        return bytes(self.machine.ports.read(0x511, 1) for _ in range(count))

    def item(self, key: int, count: int) -> bytes:
        self.select(key)
        return self.read(count)

    def request(self, control: int, length: int, where: int, at: int = REQUEST) -> int:
        """By DMA; the control word that it leaves."""
        self.machine.dma.write(at, struct.pack(">IIQ", control, length, where))
        for offset, half in ((0, at >> 32), (4, at & 0xFFFF_FFFF)):
            self.machine.ports.write(
                0x514 + offset, 4, int.from_bytes(half.to_bytes(4, "big"), "little")
            )
        return int.from_bytes(self.machine.dma.read(at, 4), "big")

    def files(self) -> dict[str, tuple[int, int]]:
        """Key and size by name."""
        count = int.from_bytes(self.item(0x19, 4), "big")
        found = {}
        for _ in range(count):
            size, key, _, name = struct.unpack(">IHH56s", self.read(64))
            found[name.rstrip(b"\0").decode()] = (key, size)
        return found


def test_the_keys_of_a_pc() -> None:
    board = Board()
    assert board.read(4) == b"QEMU"  # selected from the start
    assert board.item(0x01, 4) == b"\x03\0\0\0"
    assert board.item(0x03, 8) == SIZE.to_bytes(8, "little")
    assert board.item(0x05, 2) == board.item(0x0F, 2) == b"\x01\0"
    assert board.item(0x8002, 4) == b"\x01\0\0\0"
    assert board.item(0x7FFF, 2) == b"\0\0"
    assert board.item(0x4000, 6) == b"QEMU\0\0"


def test_files_are_in_the_order_of_their_names() -> None:
    board = Board()
    board.fw_cfg.add_file("opt/own", b"12345")
    board.fw_cfg.add_file("bootorder", b"/rom\0")
    assert board.files() == {"bootorder": (0x20, 5), "etc/e820": (0x21, 20), "opt/own": (0x22, 5)}
    assert board.item(0x22, 6) == b"12345\0"
    board.fw_cfg.add_file("opt/own", b"6")
    assert board.item(0x22, 2) == b"6\0"
    board.select(0x21)
    assert struct.unpack("<QQI", board.read(20)) == (0, SIZE, 1)


def test_names_and_keys_that_cannot_be_are_refused() -> None:
    fw_cfg = Board().fw_cfg
    for name in ("", "x" * 56, "ü"):
        with pytest.raises(ValueError, match="expected a name"):
            fw_cfg.add_file(name, b"")
    for number in range(31):
        fw_cfg.add_file(f"opt/{number}", b"")
    with pytest.raises(ValueError, match="at most 32 files"):
        fw_cfg.add_file("opt/one-more", b"")
    for key in (0x19, 0x20, 0x3F, 0x4001, 0x10000, -1):
        with pytest.raises(ValueError, match="key"):
            fw_cfg.add(key, b"")
    fw_cfg.add(0x8004, b"hpet")


def test_only_words_select_and_only_bytes_read() -> None:
    board = Board()
    ports = board.machine.ports
    ports.write(0x510, 1, 1)
    ports.write(0x511, 1, 1)
    assert ports.read(0x510, 2) == 0
    assert [ports.read(0x510, 1), ports.read(0x511, 1)] == [ord("Q"), ord("E")]


def test_dma_puts_data_and_zeros_behind_its_end() -> None:
    board = Board()
    board.machine.dma.write(0x9000, b"\xff" * 8)
    assert board.request(0x0000_000A, 6, 0x9000) == 0  # select and read
    assert board.machine.dma.read(0x9000, 8) == b"QEMU\0\0\xff\xff"
    assert board.request(0x0003_000C, 1, 0) == 0  # select and skip
    assert board.request(2, 2, 0x9000) == 0
    assert board.machine.dma.read(0x9000, 2) == b"\x00\x20"
    assert board.machine.ports.read(0x514, 4).to_bytes(4, "little") == b"QEMU"
    assert board.machine.ports.read(0x518, 4).to_bytes(4, "little") == b" CFG"


def test_dma_that_cannot_be_says_so() -> None:
    board = Board()
    assert board.request(0x10, 1, 0x9000) == 1  # nothing can be written
    assert board.request(0x10, 0, 0x9000) == 0
    assert board.request(0x0A, 8, SIZE - 2) == 1  # only two bytes fit
    assert board.machine.dma.read(SIZE - 2, 2) == b"QE"
    assert board.request(0x7FFF_000A, 0xFFFF_FFFF, 0x10_0000) == 1
    assert board.request(2, 1, HOLE) == 1
    assert board.request(2, 1, 0x9000, at=HOLE) == 0  # a request in no RAM changes nothing


def test_the_state_is_what_is_selected_and_all_contents() -> None:
    board = Board()
    states = [board.fw_cfg.state()]
    board.read(1)
    states.append(board.fw_cfg.state())
    board.fw_cfg.add_file("opt/x", b"")
    states.append(board.fw_cfg.state())
    assert all(states[n] != states[m] for n in range(3) for m in range(n))
    board.fw_cfg.reset()
    assert board.read(4) == b"QEMU"
