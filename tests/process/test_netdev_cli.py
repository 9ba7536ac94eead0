"""--netdev and --pcap on the command line."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from helpers.network_bench import free_ports
from helpers.vmm_cli import LIMIT, json_of, one_line, run

# A card that sends what it is told to and hears what comes back, and its guest.
ECHO = """
from devices.bus.pci import Bar, PciFunction
from devices.bus.region import Region

class Card(PciFunction):
    def __init__(self):
        self.wire, self.heard = None, 0
        region = Region("card", 4096, lambda _at, _size: self.heard, self.write)
        super().__init__(name="card", vendor_id=1, device_id=1, class_code=0x020000,
                         bars={0: Bar(region)})

    def connect(self, wire):
        self.wire = wire

    def write(self, _at, _size, value):
        self.wire.send([b"frame %d" % n for n in range(value)])

    def can_receive(self):
        return True

    def receive(self, frames):
        self.heard += len(frames)
        return len(frames)

    def resume_transmit(self):
        pass

def main(vcpu):
    vcpu.out32(0xcf8, 0x80000000 | 5 << 11 | 0x10)
    vcpu.out32(0xcfc, 0xe0000000)
    vcpu.out32(0xcf8, 0x80000000 | 5 << 11 | 0x04)
    vcpu.out16(0xcfc, 2)
    vcpu.store32(0xe0000000, 7)
    while vcpu.load32(0xe0000000) < 7:
        pass
"""


def hub_of_two(port: int) -> list[str]:
    """A card whose datagrams come back to it: it is its own peer."""
    spec = f"dgram,id=n0,local=127.0.0.1:{port},remote=127.0.0.1:{port}"
    return ["--netdev", spec, "--device", "card.py:Card,addr=05.0,netdev=n0"]


def test_run_tells_what_each_back_end_did_and_writes_the_first_runs_frames(
    tmp_path: Path,
) -> None:
    (tmp_path / "card.py").write_text(ECHO)
    (port,) = free_ports(1)
    result = json_of("run", "card.py:main", *hub_of_two(port), "--pcap", "out.pcap", cwd=tmp_path)
    assert [run["accel"] for run in result["runs"]] == ["process", "process", "direct"]
    for one in result["runs"]:
        netdev = one["netdevs"]["n0"]
        assert (netdev["sent"], netdev["received"], netdev["dropped"]) == (7, 7, 0)
    data = (tmp_path / "out.pcap").read_bytes()
    assert data.count(b"frame ") == 14
    if shutil.which("tshark"):
        told = subprocess.run(
            ["tshark", "-r", "out.pcap", "-T", "fields", "-e", "frame.len"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
            timeout=LIMIT,
        )
        assert told.stdout.split() == ["7"] * 14


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--netdev", "user,id=n0"], "netdev 'user,id=n0': unknown kind 'user'; known: dgram, hub"),
        (["--pcap", "f.pcap"], "--pcap f.pcap: expected a --netdev whose frames it is to hold"),
        (["--netdev", "hubport,id=a,hubid=0", "--pcap", "no/f"], "--pcap no/f: there is no folder"),
        (["--device", "e1000,netdev=n9"], "there is no netdev 'n9'; known: none"),
        (
            ["--netdev", "hubport,id=a,hubid=0"] + ["--device", "e1000,netdev=a"] * 2,
            "netdev 'a' is taken by e1000 already",
        ),
        (["--netdev", "hubport,id=a,hubid=0"] * 2, "there is a netdev 'a' already"),
        (["--device", "e1000,mac=12"], "mac: expected six bytes like 52:54:00:12:34:56, got '12'"),
        (
            ["--netdev", "hubport,id=a,hubid=0", "--device", "VGA,netdev=a"],
            "VGA is no network card and takes no netdev",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_with_a_network_is_one_line(
    tmp_path: Path, arguments: list[str], reason: str
) -> None:
    (tmp_path / "guest.py").write_text("def main(vcpu):\n    pass\n")
    assert reason in one_line(run("run", "guest.py:main", *arguments, cwd=tmp_path), 2)


def test_a_port_that_is_taken_already_is_named(tmp_path: Path) -> None:
    (tmp_path / "guest.py").write_text("def main(vcpu):\n    pass\n")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = run("run", "guest.py:main", "--netdev", f"socket,id=a,listen=:{port}", cwd=tmp_path)
    assert f"cannot bind to 0.0.0.0:{port}: Address already in use" in one_line(done, 2)


def test_a_netdev_that_no_device_uses_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "guest.py").write_text("def main(vcpu):\n    pass\n")
    done = run(
        *("run", "guest.py:main", "--accel", "direct", "--netdev", "hubport,id=a,hubid=0"),
        cwd=tmp_path,
    )
    assert done.returncode == 0
    assert done.stderr == "coalesced: warning: netdev a has no peer\n"


def test_a_network_makes_ten_milliseconds_of_staleness_the_default(tmp_path: Path) -> None:
    """The guest's only write is queued, and heard although it never exits."""
    (tmp_path / "card.py").write_text(
        ECHO.replace("4096,", "4096, coalesced=((0, 4096),), read=")
        .replace("read= lambda", "read=lambda")
        .replace("self.heard, self.write", "self.heard, write=self.write")
        .replace("while vcpu.load32(0xe0000000) < 7:\n        pass", "vcpu.wait_interrupt(1, 0.5)")
    )
    (port,) = free_ports(1)
    result = json_of("run", "card.py:main", *hub_of_two(port), cwd=tmp_path)
    assert result["runs"][0]["stale_drains"] == 1
    off = json_of("run", "card.py:main", *hub_of_two(port), "--staleness", "off", cwd=tmp_path)
    assert off["runs"][0]["stale_drains"] == 0
