"""More coalescible ranges than zones, and how many requests it takes to change them."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from coalesced.hv import abi
from coalesced.hv.client import Range, Vm, ZoneChange
from coalesced.hv.errors import RequestError
from helpers.hv_processes import machine
from helpers.vmm_cli import run

ZONES = abi.NR_IOBUS_DEVS

DEVICES = '''
"""Devices with many coalesced ranges, and guests that move them."""
from coalesced.devices.bus.pci import Bar, PciFunction
from coalesced.devices.bus.region import Region

BAR = 0xE0000000

class Many(PciFunction):
    def __init__(self, ranges=1200):
        self.log = self.count = 0
        coalesced = tuple((16 * i, 8) for i in range(ranges))
        region = Region("many", 0x10000, self.read, self.write, coalesced=coalesced)
        super().__init__(
            name="many", vendor_id=0x1234, device_id=1, class_code=0xFF0000, bars={0: Bar(region)}
        )

    def read(self, offset, size):
        return self.log & 0xFFFFFFFF

    def write(self, offset, size, value):
        self.count += 1
        self.log = (self.log * 31 + offset * 7 + value) & 0xFFFFFFFF

    def state(self):
        return {**super().state(), "log": self.log, "count": self.count}

def place(vcpu, slot, base):
    for register, value in ((0x10, base), (4, 2)):
        vcpu.out32(0xCF8, 0x80000000 | slot << 11 | register)
        vcpu.out32(0xCFC, value)

def left_behind(vcpu):
    """Another device, none of whose writes may wait, comes to where the first one was."""
    place(vcpu, 5, BAR)
    for i in (0, 999, 1000, 1199):
        vcpu.store32(BAR + 16 * i, i)
    place(vcpu, 5, BAR + 0x400000)
    place(vcpu, 6, BAR)
    for i in range(50):
        vcpu.store32(BAR, i)
'''


@pytest.fixture
def vm() -> Iterator[Vm]:
    with machine("coalesced.tools.guests.vga:draw") as made:
        yield made


def ranges(count: int, start: int = 0x100000) -> list[Range]:
    return [(start + 16 * number, 8) for number in range(count)]


def requests_of(vm: Vm, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the requests from now on."""
    numbers: list[int] = []
    request = vm.request

    def note(number: int, argument: bytes, *rest: object) -> object:
        numbers.append(number)
        return request(number, argument, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(vm, "request", note)
    return numbers


def test_900_zones_move_in_one_request(vm: Vm, monkeypatch: pytest.MonkeyPatch) -> None:
    assert vm.change_coalesced_mmio(ZoneChange(added=ranges(900))) == 900
    numbers = requests_of(vm, monkeypatch)
    assert vm.change_coalesced_mmio(ZoneChange(ranges(900), ranges(900, 0x200000))) == 900
    assert len(numbers) == 1


def test_the_kernel_takes_zones_until_there_is_no_room(
    vm: Vm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old zones are removed first. After a refusal no further zone is requested."""
    own = 1  # the zone that `machine` registers
    assert vm.change_coalesced_mmio(ZoneChange(added=ranges(ZONES - own))) == ZONES - own
    numbers = requests_of(vm, monkeypatch)
    assert vm.change_coalesced_mmio(ZoneChange(ranges(3), ranges(100_000, 0x200000))) == 3
    assert len(numbers) == 1
    with pytest.raises(RequestError) as refused:
        vm.register_coalesced_mmio(0x5000, 8)
    assert refused.value.errno == errno.ENOSPC
    assert vm.change_coalesced_mmio(ZoneChange(added=ranges(2), port=True)) == 2


def test_a_long_list_goes_in_several_requests(vm: Vm, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old ranges may be any, and the new ones follow behind the last of them."""
    numbers = requests_of(vm, monkeypatch)
    assert vm.change_coalesced_mmio(ZoneChange(ranges(10_000), ranges(ZONES // 2))) == ZONES // 2
    assert len(numbers) == 3
    assert vm.change_coalesced_mmio(ZoneChange(removed=ranges(ZONES // 2))) == 0
    assert vm.change_coalesced_mmio(ZoneChange(added=ranges(ZONES))) == ZONES - 1


def batch(removed: int, zones: Sequence[bytes]) -> bytes:
    return abi.HV_REQUEST.pack(removed) + b"".join(zones)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        (b"", "got 0"),
        (b"123", "got 3"),
        (batch(1, [b"x" * 15]), "got 19"),
        (batch(0, [abi.KVM_COALESCED_MMIO_ZONE.pack(0, 8, 6)]), "pio is 4"),
    ],
)
def test_a_batch_that_is_none_is_refused(vm: Vm, argument: bytes, said: str) -> None:
    with pytest.raises(RequestError, match=said) as refused:
        vm.request(abi.HV_CHANGE_ZONES, argument)
    assert refused.value.errno == errno.EINVAL


def test_the_1001st_range_is_not_coalesced_and_an_old_address_is_free(tmp_path: Path) -> None:
    (tmp_path / "many.py").write_text(DEVICES)
    first, second = "many.py:Many,addr=05.0", "many.py:Many,addr=06.0,ranges=0"
    done = run(
        *("run", "many.py:left_behind", "--device", first, "--device", second, "--json"),
        cwd=tmp_path,
    )
    assert done.stderr == (
        "coalesced: warning: memory: the kernel has no room for more than 1,000 coalesced zones: "
        "writes to 0xe0003e80+0x8 and 199 more ranges exit\n"
    )
    result = json.loads(done.stdout)
    assert (done.returncode, result["identical"]) == (0, True)
    ours = result["runs"][0]
    # Queued: 0xcf8 six times, and the first device's registers 0 and 999.
    assert (ours["coalesced"], ours["exits_by"]["no_zone"]) == (8, 2 + 50)
