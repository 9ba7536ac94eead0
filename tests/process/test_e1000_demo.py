"""`coalesced demo e1000`: exact counts, the same frames in all runs, and others on its wire."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from coalesced.devices.e1000.registers import EXCLUDED, MMIO_SIZE
from coalesced.hv.abi import OP_OUT, OP_STORE
from coalesced.hv.ring import usable
from coalesced.tools.guests.network import packets
from coalesced.tools.guests.network.packets import Ipv4
from coalesced.tools.runs.exchange import free_ports
from coalesced.tools.traces.trace import read
from helpers.vmm_cli import Running, json_of, one_line, run
from helpers.vmm_model import exits_of
from helpers.warm import PROGRAM

FRAMES = 500
CARD = 0xFEBE_0000
CONFIG_ADDRESS = 0xCF8
REASONS = {"load", "pio", "no_zone", "straddle", "ring_full", "hlt"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("e1000")


@pytest.fixture(scope="module")
def demo(folder: Path) -> dict[str, Any]:
    """A short demo with two tail writes a round, its accesses and its frames written down."""
    return json_of(
        *("demo", "e1000", "--frames", FRAMES, "--burst", 32, "--tail-every", 16),
        *("--trace", "e1000.trace", "--pcap", "e1000.pcap"),
        cwd=folder,
    )


def test_all_runs_send_and_receive_the_same_frames(demo: dict[str, Any]) -> None:
    assert [(r["accel"], r["coalescing"]) for r in demo["runs"]] == [
        ("process", True),
        ("process", False),
        ("direct", False),
    ]
    assert demo["identical"] is True
    first = demo["runs"][0]
    for entry in demo["runs"]:
        assert entry["network"] == first["network"]
        assert entry["writes"] == first["writes"]
        assert entry["state"] == first["state"]
        assert entry["stale_drains"] == entry["failed_writes"] == entry["unassigned"] == 0
        assert entry["exits"] == sum(entry["exits_by"].values())
        assert entry["ns_per_write"] == pytest.approx(entry["seconds"] / entry["writes"] * 1e9)
        assert entry["frames_per_second"] == pytest.approx(2 * FRAMES / entry["seconds"])
    guest, card, peer = (first["network"][who] for who in ("guest", "card", "peer"))
    assert guest["sent"] == guest["received"] == peer["received"] == FRAMES
    assert guest["wrong"] == peer["wrong"] == 0
    assert guest["interrupts"] == 1 + -(-FRAMES // 32)
    # The ARP and its answer besides; the statistics count the frame check sequence.
    assert card["GPTC"] == card["TPT"] == card["GPRC"] == card["TPR"] == FRAMES + 1
    assert card["MPC"] == card["RNBC"] == 0
    wire = first["netdevs"]["n0"]
    assert (wire["sent"], wire["received"], wire["dropped"]) == (FRAMES + 1, FRAMES + 1, 0)
    assert card["GOTCL"] == wire["sent_bytes"] + 4 * wire["sent"]
    assert card["GORCL"] == wire["received_bytes"] + 4 * wire["received"]


def test_exit_counts_are_those_of_the_rules(demo: dict[str, Any], folder: Path) -> None:
    """A plain Python model counts them from the guest's accesses."""
    ops = read(folder / "e1000.trace").ops.tolist()
    coalesced, plain, direct = demo["runs"]
    starts = [CARD, *(CARD + register + 4 for register in EXCLUDED)]
    ends = [*(CARD + register for register in EXCLUDED), CARD + MMIO_SIZE]
    zones = [(start, end - 1) for start, end in zip(starts, ends, strict=True)]
    # The host bridge's address port is coalesced as well; here it is memory, where nothing else is.
    zones.append((CONFIG_ADDRESS, CONFIG_ADDRESS + 3))
    as_memory = [
        (OP_STORE, *op[1:]) if op[0] == OP_OUT and op[2] == CONFIG_ADDRESS else op for op in ops
    ]
    for entry, seen, room in ((coalesced, as_memory, usable(1)), (plain, ops, None)):
        queued, exits = exits_of(seen, zones, room)
        assert entry["exits_by"] == {reason: exits[reason] for reason in REASONS}
        assert (entry["coalesced"], entry["exits"]) == (queued, exits.total())
    assert direct["writes"] == sum(op[0] in (OP_STORE, OP_OUT) for op in ops)
    assert demo["savings"]["exits"] == 1 - coalesced["exits"] / plain["exits"]


def test_the_capture_holds_each_frame_of_the_first_run_once(
    demo: dict[str, Any], folder: Path
) -> None:
    data = (folder / "e1000.pcap").read_bytes()
    at, lengths = 24, []
    while at < len(data):
        lengths.append(int.from_bytes(data[at + 8 : at + 12], "little"))
        at += 16 + lengths[-1]
    assert at == len(data)
    assert len(lengths) == 2 * (FRAMES + 1)
    wire = demo["runs"][0]["netdevs"]["n0"]
    assert sum(lengths) == wire["sent_bytes"] + wire["received_bytes"]


def test_the_table_for_people(tmp_path: Path) -> None:
    done = run("demo", "e1000", "--accel", "direct", "--frames", 40, "--burst", 7, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "40 + 40" in done.stdout
    assert "Every byte of every frame was right at both ends, in all runs." in done.stdout


@pytest.mark.heavy
def test_a_million_frames_take_no_more_memory_than_ten_thousand(tmp_path: Path) -> None:
    rss = []
    for frames in (10_000, 500_000):  # each way
        result = json_of_long(tmp_path, "--frames", str(frames), "--accel", "process")
        assert result["identical"]
        rss.append(result["runs"][0]["rss_bytes"])
    for side in ("hv", "vmm"):
        assert rss[1][side] < rss[0][side] + (4 << 20)


def json_of_long(folder: Path, *arguments: str) -> dict[str, Any]:
    """As json_of, for what takes minutes."""
    command = [PROGRAM, "demo", "e1000", *arguments, "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=1800, check=True)
    result = json.loads(done.stdout)
    assert isinstance(result, dict)
    return result


# --- with --netdev ---


def spec(local: int, remote: int) -> str:
    return f"dgram,id=n0,local=127.0.0.1:{local},remote=127.0.0.1:{remote}"


MOST = 10_000_000 * 0.3 / 8 / 1470 + 2  # datagrams of 0.3 s at 10 Mbit/s, and the last one


@pytest.mark.heavy
def test_a_guest_sends_to_another_guests_iperf_server(tmp_path: Path) -> None:
    """Two of this program on one wire: ARP, UDP and the report of the receiver."""
    ours, theirs = free_ports()
    serving = ("demo", "e1000", "--netdev", spec(ours, theirs), "--ip", "192.0.2.9")
    with Running(*serving, cwd=tmp_path) as server:
        result = json_of(
            *("bench", "e1000", "--iperf", "192.0.2.9", "--netdev", spec(theirs, ours)),
            *("--ip", "192.0.2.8", "--rate", "10M", "--seconds", "0.3"),
            cwd=tmp_path,
        )
        server.interrupt()
        status, out, err = server.end()
        server.nothing_left()
    tests = result["e1000"]["iperf"]
    assert [test["coalescing"] for test in tests] == [True, False]
    for test in tests:
        assert 0 < test["server"]["datagrams"] == test["sent"] <= MOST
        assert test["server"]["lost"] == test["server"]["out_of_order"] == 0
    assert status == 130
    assert "Traceback" not in err
    assert "Answered: 2 ARP, 0 ping, 0 UDP echo" in out
    for test in tests:
        assert f"iperf: {test['sent']:,} datagrams, 0 lost" in out


def test_it_ends_by_itself_and_says_what_it_answered(tmp_path: Path) -> None:
    ours, theirs = free_ports()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        wire.bind(("127.0.0.1", theirs))
        wire.connect(("127.0.0.1", ours))
        command = ("demo", "e1000", "--netdev", spec(ours, theirs), "--seconds", "1.5", "--json")
        with Running(*command, "--accel", "direct", cwd=tmp_path) as guest:
            guest.look()
            ask(wire, guest)
            status, out, err = guest.end()
    assert (status, err) == (0, "")
    result = json.loads(out)
    (entry,) = result["runs"]
    assert entry["network"]["guest"]["arp"] > 0  # what was asked while the card was deaf, too
    assert result["savings"] == {"exits": None, "time": None}


def test_an_answer_that_has_arrived_is_counted_whenever_ctrl_c_comes(tmp_path: Path) -> None:
    ours, theirs = free_ports()
    card, me, guest_ip = b"\x52\x54\0\x12\x34\x56", bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        wire.bind(("127.0.0.1", theirs))
        wire.connect(("127.0.0.1", ours))
        with Running("demo", "e1000", "--netdev", spec(ours, theirs), cwd=tmp_path) as guest:
            guest.wait_for_guest()
            ask(wire, guest)
            wire.settimeout(10)
            for number in range(5):
                ping = packets.icmp(packets.ICMP_ECHO, number.to_bytes(4, "big"))
                packet = Ipv4(me, guest_ip, packets.PROTOCOL_ICMP, ping)
                ethertype = packets.ETHERTYPE_IPV4
                wire.send(packets.ethernet(card, card, ethertype, packets.ipv4(packet)))
                while wire.recv(2000)[12:14] != b"\x08\0":
                    pass  # a late answer to ARP
            guest.interrupt()
            status, out, _ = guest.end()
    assert status == 130
    assert " 5 ping" in out


@pytest.mark.heavy
def test_an_iperf_server_that_never_answers_is_a_failure(tmp_path: Path) -> None:
    ours, theirs = free_ports()
    with Running(
        *("demo", "e1000", "--netdev", spec(ours, theirs), "--ip", "192.0.2.9"), cwd=tmp_path
    ) as host:
        host.wait_for_guest()
        done = run(
            *("bench", "e1000", "--iperf", "192.0.2.9:5999", "--netdev", spec(theirs, ours)),
            *("--ip", "192.0.2.8", "--rate", "1M", "--seconds", "0.2"),
            cwd=tmp_path,
        )
        host.interrupt()
        host.end()
    said = one_line(done, 1)
    assert said.startswith("--iperf 192.0.2.9:5999: no report came back for ")
    assert said.endswith("expected `iperf -s -u` to run there, on port 5999")


def ask(wire: socket.socket, guest: Running) -> None:
    """Send an ARP request for the guest until its socket is there, and take the answer."""
    question = "0001080006040001 ce427add9bc7 c0000201 000000000000 c0000202"
    frame = bytes.fromhex("ffffffffffff ce427add9bc7 0806" + question)
    wire.settimeout(0.1)
    answer = b""
    while not answer:
        assert guest.process.poll() is None
        with suppress(ConnectionRefusedError, TimeoutError):
            wire.send(frame)
            answer = wire.recv(2000)
    assert answer[12:22] == bytes.fromhex("0806 0001 0800 0604 0002")


def test_ctrl_c_during_the_exchange_leaves_nothing(tmp_path: Path) -> None:
    with Running("demo", "e1000", "--frames", "1000000", cwd=tmp_path) as running:
        running.wait_for_guest()
        os.kill(running.pid, signal.SIGINT)
        status, out, err = running.end()
        running.nothing_left()
    assert (status, out) == (130, "")
    assert "Traceback" not in err
