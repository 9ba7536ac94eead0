"""A bus master's view of an address: RAM, regions, nothing, and the edges between them."""

from __future__ import annotations

import pytest

from coalesced.devices.bus.address_space import AddressSpace
from coalesced.devices.bus.region import Region
from coalesced.vmm.accel.direct import LocalMemory
from coalesced.vmm.dma import MemoryMaster

TOP = 1 << 64


class Bench:
    """RAM at 0 and at 0x3000, one page each, and a device's memory at 0x1000 and across 0x3000."""

    def __init__(self) -> None:
        self.ram = [LocalMemory(0, 0x1000), LocalMemory(0x3000, 0x1000)]
        self.space = AddressSpace("memory", TOP, 0x00)
        self.device = bytearray(0x2800)
        self.sizes: list[int] = []
        self.space.map(Region("device", 0x2800, self._read, self._write), 0x1000)
        self.master = MemoryMaster(list(self.ram), self.space)

    def _read(self, offset: int, size: int) -> int:
        self.sizes.append(size)
        return int.from_bytes(self.device[offset : offset + size], "little")

    def _write(self, offset: int, size: int, value: int) -> None:
        self.sizes.append(size)
        self.device[offset : offset + size] = value.to_bytes(size, "little")


@pytest.mark.parametrize("size", [-1, (1 << 32) + 1, 1 << 40, 1 << 70])
def test_a_length_that_no_access_has_is_refused_by_a_line(size: int) -> None:
    text = f"DMA of {size} bytes from 0x6000: expected 0 to 4294967296"
    with pytest.raises(ValueError, match=f"^{text}$"):
        Bench().master.read(0x6000, size)


def test_ram_and_a_device_beside_it_are_one_stretch() -> None:
    bench = Bench()
    data = bytes(range(1, 201))
    bench.master.write(0x1000 - 100, data)
    assert bench.ram[0].read(0x1000 - 100, 100) == data[:100]
    assert bytes(bench.device[:100]) == data[100:]
    assert bench.master.read(0x1000 - 100, 200) == data


def test_ram_wins_over_a_region() -> None:
    bench = Bench()
    bench.master.write(0x3000 - 8, b"a" * 16)
    assert bytes(bench.device[0x1FF8:0x2000]) == b"a" * 8
    assert bytes(bench.device[0x2000:0x2008]) == bytes(8)
    assert bench.ram[1].read(0, 8) == b"a" * 8


def test_a_device_sees_aligned_accesses() -> None:
    bench = Bench()
    bench.master.read(0x1001, 15)
    assert bench.sizes == [1, 2, 4, 8]


def test_nothing_reads_as_zero_and_swallows_writes_at_no_cost() -> None:
    bench = Bench()
    assert bench.master.read(1 << 40, 1 << 20) == bytes(1 << 20)
    bench.master.write(1 << 40, bytes(1 << 20))
    assert not bench.sizes


def test_the_end_of_ram_reads_on_as_zero() -> None:
    bench = Bench()
    bench.ram[1].write(0xFFC, b"tail")
    assert bench.master.read(0x3FFC, 8) == b"tail" + bytes(4)


def test_an_address_past_the_top_wraps() -> None:
    bench = Bench()
    bench.master.write(TOP - 4, b"highlow!")
    assert bench.ram[0].read(0, 4) == b"low!"
    assert bench.master.read(TOP - 4, 8) == bytes(4) + b"low!"
    assert bench.master.read(TOP + 2, 2) == b"w!"
