"""--netdev and --pcap on the command line."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from helpers.network_bench import free_ports
from helpers.tiers import every, some_heavy
from helpers.vmm_cli import LIMIT, Cold, Running, json_of, one_line, run, until

# A card that sends frames on request and counts the answers, and its guest.
ECHO = """
from coalesced.devices.bus.pci import Bar, PciFunction
from coalesced.devices.bus.region import Region

class Card(PciFunction):
    def __init__(self):
        self.wire, self.heard = None, 0
        region = Region("card", 4096, lambda _at, _size: self.heard, self.write,
                        coalesced=((0, 4096),))
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

def send(vcpu):
    vcpu.out32(0xcf8, 0x80000000 | 5 << 11 | 0x10)
    vcpu.out32(0xcfc, 0xe0000000)
    vcpu.out32(0xcf8, 0x80000000 | 5 << 11 | 0x04)
    vcpu.out16(0xcfc, 2)
    vcpu.store32(0xe0000000, 7)

def main(vcpu):
    send(vcpu)
    while vcpu.load32(0xe0000000) < 7:
        pass

def quiet(vcpu):
    send(vcpu)
    vcpu.wait_interrupt(1, 0.1)
"""


def own_peer(port: int) -> list[str]:
    """A card whose datagrams come back to it."""
    spec = f"dgram,id=n0,local=127.0.0.1:{port},remote=127.0.0.1:{port}"
    return ["--netdev", spec, "--device", "card.py:Card,addr=05.0,netdev=n0"]


def test_run_tells_what_each_back_end_did_and_writes_the_first_runs_frames(
    tmp_path: Path,
) -> None:
    (tmp_path / "card.py").write_text(ECHO)
    (port,) = free_ports(1)
    result = json_of("run", "card.py:main", *own_peer(port), "--pcap", "out.pcap", cwd=tmp_path)
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
        (["--pcap", "f.pcap"], "--pcap f.pcap: needs a --netdev, whose frames it records"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_with_a_network_is_one_line(
    tmp_path: Path, arguments: list[str], reason: str
) -> None:
    (tmp_path / "guest.py").write_text("def main(vcpu):\n    pass\n")
    assert reason in one_line(run("run", "guest.py:main", *arguments, cwd=tmp_path), 2)


def test_a_netdev_that_no_device_uses_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "guest.py").write_text("def main(vcpu):\n    pass\n")
    done = run(
        *("run", "guest.py:main", "--accel", "direct", "--netdev", "hubport,id=a,hubid=0"),
        cwd=tmp_path,
    )
    assert done.returncode == 0
    assert done.stderr == "coalesced: warning: netdev a has no peer\n"


def test_a_network_makes_ten_milliseconds_of_staleness_the_default(tmp_path: Path) -> None:
    """The guest's last write is queued, and heard although there is no exit after it.

    The timer may find that to 0xcf8, too, where the guest pauses behind it.
    """
    (tmp_path / "card.py").write_text(ECHO)
    (port,) = free_ports(1)
    result = json_of("run", "card.py:quiet", *own_peer(port), cwd=tmp_path)
    assert result["runs"][0]["stale_drains"] in (1, 2)


@some_heavy(
    "kind, number",
    every(["stream", "dgram"], [signal.SIGTERM, signal.SIGHUP, signal.SIGINT]),
    lambda kind, number: number == (signal.SIGTERM if kind == "stream" else signal.SIGINT),
)
def test_a_signal_leaves_no_socket_behind(
    tmp_path: Path, kind: str, number: signal.Signals
) -> None:
    """The program ends by it, and its guest process with it."""
    (tmp_path / "echo.py").write_text(ECHO)
    path = tmp_path / "sock"
    netdev = {
        "stream": f"stream,id=n0,server=on,addr.type=unix,addr.path={path}",
        "dgram": f"dgram,id=n0,local.type=unix,local.path={path},"
        "remote.type=unix,remote.path=/nowhere",
    }[kind]
    device = ("--device", "echo.py:Card,addr=05.0,netdev=n0")
    with Running("run", "echo.py:main", *device, "--netdev", netdev, cwd=tmp_path) as program:
        program.wait_for_guest()
        until(path.is_socket)
        os.kill(program.pid, number)
        status, _, err = program.end()
        assert status == (130 if number == signal.SIGINT else -number)
        assert "Traceback" not in err
        assert not path.exists()
        program.nothing_left()


def test_a_signal_that_is_ignored_stays_so(tmp_path: Path) -> None:
    """As under nohup."""
    (tmp_path / "echo.py").write_text(ECHO)
    path = tmp_path / "sock"
    netdev = f"stream,id=n0,server=on,addr.type=unix,addr.path={path}"
    device = ("--device", "echo.py:Card,addr=05.0,netdev=n0")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        program = Cold("run", "echo.py:main", *device, "--netdev", netdev, cwd=tmp_path)
    finally:
        signal.signal(signal.SIGHUP, before)
    with program:
        until(path.is_socket)
        os.kill(program.pid, signal.SIGHUP)
        os.kill(program.pid, signal.SIGTERM)
        assert program.end()[0] == -signal.SIGTERM
        assert not path.exists()
