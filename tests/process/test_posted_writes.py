"""Posted writes from a guest to its device, through both processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from coalesced.hv import abi, client, core
from coalesced.hv.client import ZoneChange
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.errors import RequestError
from coalesced.hv.outcome import Event
from coalesced.tools.bench import host
from coalesced.tools.bench.doorbell import Bell
from helpers.hv_guests import drained, vcpu_of, writer
from helpers.hv_processes import ZONE, machine, within
from helpers.vmm_cli import json_of, one_line, run

BELL = ZONE + 0x1000
FRAMES = 40

DEVICE = """
from coalesced.devices.bus.pci import Bar, PciFunction
from coalesced.devices.bus.region import Region
from coalesced.tools.guests.network import pci

class Echo(PciFunction):
    '''Raises its interrupt when the register at 4 is written; a load of 0 takes it back.'''

    def __init__(self):
        region = Region(
            "echo", 0x1000, self.read, self.write, coalesced=((0, 4),), posted=((4, 4),)
        )
        self.seen = []
        super().__init__(
            name="echo", vendor_id=0x1234, device_id=0x5678, class_code=0xFF0000, revision=0,
            bars={0: Bar(region)}, interrupt_pin=1,
        )

    def read(self, offset, size):
        self.set_interrupt(False)
        return len(self.seen)

    def write(self, offset, size, value):
        self.seen.append((offset, value))
        if offset == 4:
            self.set_interrupt(True)

    def state(self):
        return {**super().state(), "seen": repr(self.seen).encode()}

def main(vcpu):
    slot = pci.find(vcpu, 0x1234, 0x5678)
    base = slot.place(0, 0xFEC00000)
    slot.enable()
    line = 1 << slot.wire_interrupt()
    for number in range(10):
        vcpu.store32(base, number)
        vcpu.store32(base + 4, number)
        assert vcpu.wait_interrupt(line, 60), "the write does not reach the device"
        vcpu.load32(base)
"""

NETWORK = """
from coalesced.tools.guests.network.blocks import of_rows
from coalesced.tools.guests.network.card import Card

def main(vcpu):
    card = Card(vcpu)
    for number in range(FRAMES):
        card.send(of_rows([bytes(12) + b"\\x08\\x00" + bytes([number] * 50)]))
    while card.transmitter.room < ROOM:
        assert card.wait(60), "frames do not leave"
        card.service()
"""


def frames_of(pcap: Path) -> list[bytes]:
    """The frames of a recording without their times."""
    data, frames = pcap.read_bytes()[24:], []
    while data:
        size = int.from_bytes(data[8:12], "little")
        frames.append(data[16 : 16 + size])
        data = data[16 + size :]
    return frames


@pytest.mark.parametrize("policy", list(WaitPolicy), ids=lambda p: p.name.lower())
def test_a_guest_that_only_posts_is_served_while_it_runs(
    tmp_path: Path, policy: WaitPolicy
) -> None:
    """It makes no exit until the device has answered by RAM, in any policy."""
    source = f"""
        def main(vcpu):
            for n in range(50):
                vcpu.store32({ZONE:#x}, n)
                vcpu.store32({BELL:#x}, 1000 + n)
                vcpu.wait_interrupt(1 << (n % 2))
        """
    with within(60), machine(writer(tmp_path)(source), policy=policy) as vm:
        vm.change_coalesced_mmio(ZoneChange(posted=[(BELL, 4)]))
        vcpu = vcpu_of(vm)
        for n in range(50):
            seen: list[int] = []
            while len(seen) < 2:
                assert vcpu.run(60.0, core.WATCH_POSTED) is Event.RING_FILLED
                seen += drained(vm)
            assert seen == [n, 1000 + n]
            vm.irq_line(1 - n % 2, False)
            vm.irq_line(n % 2, True)
        assert vcpu.run(60.0, core.WATCH_POSTED) == (abi.KVM_EXIT_HLT, 0, 0, False, 0)
        assert vm.statistics().exits == 1


def test_a_posted_zone_over_a_plain_one_is_refused(tmp_path: Path) -> None:
    name = writer(tmp_path)("def main(vcpu):\n    pass\n")
    with within(60), machine(name) as vm:
        with pytest.raises(RequestError, match="only one of them is posted"):
            vm.change_coalesced_mmio(ZoneChange(posted=[(ZONE, 8)]))
        assert vm.change_coalesced_mmio(ZoneChange([(ZONE, 8)], posted=[(ZONE, 8)])) == 1


def test_posted_zones_count_as_zones_of_their_kind(tmp_path: Path) -> None:
    name = writer(tmp_path)("def main(vcpu):\n    pass\n")
    posted: list[client.Range] = [(0x200000 + 16 * n, 8) for n in range(2 * abi.NR_IOBUS_DEVS)]
    with within(60), machine(name) as vm:
        assert vm.change_coalesced_mmio(ZoneChange(posted=posted)) == abi.NR_IOBUS_DEVS - 1


@pytest.mark.parametrize("wait", ["block", "adaptive", "poll"])
def test_a_device_acts_on_a_posted_write_while_the_guest_halts(tmp_path: Path, wait: str) -> None:
    """Nothing else would drain it: staleness is off. Its queued neighbour comes before it."""
    (tmp_path / "echo.py").write_text(DEVICE)
    command = ["run", "echo.py:main", "--device", "echo.py:Echo,addr=05.0", "--wait", wait]
    found = json_of(*command, cwd=tmp_path)
    posted, exiting = found["runs"][0], found["runs"][1]
    assert posted["exits_by"]["no_zone"] == 0
    assert exiting["exits_by"]["no_zone"] >= 20
    assert found["identical"]


@pytest.mark.parametrize("wait", ["block", "adaptive"])
def test_frames_leave_by_a_posted_tail(tmp_path: Path, wait: str) -> None:
    """Each write of TDT is an exit less, and the same frames leave in the same order."""
    source = NETWORK.replace("FRAMES", str(FRAMES)).replace("ROOM", "255")
    (tmp_path / "send.py").write_text(source)
    runs, frames = {}, {}
    for tdt in ("exit", "posted"):
        device = f"e1000,addr=03.0,tdt={tdt}"
        netdev = "dgram,id=n0,local=127.0.0.1:0,remote=127.0.0.1:9"
        command = ["run", "send.py:main", "--device", f"{device},netdev=n0", "--netdev", netdev]
        command += ["--pcap", f"{tdt}.pcap", "--staleness", "off", "--wait", wait]
        runs[tdt] = json_of(*command, cwd=tmp_path)["runs"][0]
        frames[tdt] = frames_of(tmp_path / f"{tdt}.pcap")
    exits, fewer = (runs[tdt]["exits_by"]["no_zone"] for tdt in ("exit", "posted"))
    assert exits - fewer == FRAMES + 1  # the driver resets the tail at first
    assert frames["posted"] == frames["exit"]
    assert [frame[-1] for frame in frames["posted"]] == list(range(FRAMES))


def test_a_port_is_posted_without_editing_its_device(tmp_path: Path) -> None:
    (tmp_path / "guest.py").write_text(
        "def main(vcpu):\n    for n in range(20):\n        vcpu.out8(0x3C8, n)\n"
    )
    found = json_of("run", "--post", "pio:0x3c8+1", "guest.py:main", cwd=tmp_path)
    assert (found["runs"][0]["coalesced"], found["runs"][0]["exits"]) == (20, 1)
    assert found["identical"]


@pytest.mark.slow
def test_a_doorbell_is_measured_in_four_ways(tmp_path: Path) -> None:
    found = json_of("bench", "doorbell", "--quick", "--wait", "block", cwd=tmp_path)
    figures = found["doorbell"]["block"]
    assert list(figures) == ["exit", "queued", "posted", "ioeventfd"]
    for way in figures.values():
        assert way["latency_p50_us"] > 0
        assert way["guest_ns"] > 0


@pytest.mark.parametrize("way", ["exit", "queued", "posted", "ioeventfd"])
def test_a_doorbell_goes_the_way_that_is_measured(way: str) -> None:
    """Only an exit keeps the guest for each write, and only a queued one waits for its age."""
    rings = 30
    bell = Bell(way, "block", host.placements()[0])
    with bell.machine as machine:
        bell.measure(rings)
        counters = machine.counters
        assert (counters.exits >= rings) is (way == "exit")
        assert counters.stale_drains > 0 or way != "queued"  # a busy machine may be late for others
        assert counters.coalesced == (rings if way in ("queued", "posted") else 0)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--post", "0x10+0"), "--post 0x10+0: expected [pio:]ADDRESS+SIZE"),
        (
            ("--post", "0x10+4", "--accel", "direct"),
            "--post 0x10+0x4: --accel direct has no posted writes",
        ),
        (
            ("--device", "e1000,addr=03.0,tdt=now"),
            "device 'e1000,addr=03.0,tdt=now': tdt: expected exit or posted, got 'now'",
        ),
    ],
)
def test_a_wrong_option_is_one_line(tmp_path: Path, given: tuple[str, ...], said: str) -> None:
    (tmp_path / "x.py").write_text("def main(vcpu):\n    pass\n")
    assert one_line(run("run", "x.py:main", *given, cwd=tmp_path), 2).endswith(said)
