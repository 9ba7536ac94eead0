"""iperf 2's UDP test: bytes that iperf 2.1.8 sent, and both ends of ours."""

from __future__ import annotations

import time

import numpy as np
import pytest

from coalesced.tools.bench.iperf import bits_per_second
from coalesced.tools.errors import BadInput
from coalesced.tools.guests.network import blocks, packets, serve
from coalesced.tools.guests.network.blocks import Frames, Host, UdpFlow
from coalesced.tools.guests.network.card import Card
from coalesced.tools.guests.network.iperf import LOCAL_PORT, Receiver, Sender
from coalesced.tools.guests.network.iperf_wire import (
    DATAGRAM,
    PORT,
    REPORT_SIZE,
    Report,
    get_headers,
    pack_report,
    parse_report,
    put_headers,
)
from coalesced.tools.guests.network.packets import PAYLOAD_AT, Arp, Udp
from coalesced.tools.guests.network.stack import Stack
from helpers.net_card import MAC, FakeCard

IP, HOST = bytes((192, 0, 2, 2)), bytes((192, 0, 2, 1))
HOST_MAC = bytes.fromhex("ce427add9bc7")

# What `iperf -s -u` 2.1.8 answered to a last datagram numbered 0: 1,001 datagrams, none lost.
SERVER_ANSWER = bytes.fromhex(
    "00000000000000000000000000000000"
    "8800000000000000001673ee000000010001b0ad0000000000000000000003e9000000000000000b"
    "000000000000000600000000000000bd000000000000513000000000000000140003dff400057cd8"
    "0000000000000026000003e90000038500000001000000000000000000000000"
)
SERVER_REPORT = Report(1_471_470, 1.110765, 0, 0, 1001, 11e-6)
# The first datagram, and one of the last, of `iperf -c -u` 2.1.8.
CLIENT_FIRST = bytes.fromhex("000000016b03222b00054fdc00000000")
CLIENT_LAST = bytes.fromhex("fffffff46b03222b00057e41ffffffff")


def datagrams(*headers: bytes) -> Frames:
    """Frames with these first bytes of payload."""
    block = blocks.empty(len(headers))
    for row, header in zip(block, headers, strict=True):
        row[PAYLOAD_AT : PAYLOAD_AT + len(header)] = np.frombuffer(header, np.uint8)
    return Frames(block, np.full(len(headers), PAYLOAD_AT + DATAGRAM))


def test_headers_of_iperfs_client() -> None:
    numbers, sent, final = get_headers(datagrams(CLIENT_FIRST, CLIENT_LAST))
    assert numbers.tolist() == [1, 12]
    assert sent.tolist() == pytest.approx([0x6B03222B + 0.348124, 0x6B03222B + 0.360001])
    assert final.tolist() == [False, True]


def test_headers_of_a_client_with_numbers_of_32_bits() -> None:
    numbers, _, final = get_headers(datagrams(CLIENT_LAST[:12] + b"2345"))
    assert (numbers.tolist(), final.tolist()) == ([12], [True])


@pytest.mark.parametrize("number", [1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40 + 5])
def test_numbers_of_64_bits_come_back(number: int) -> None:
    block = blocks.empty(2)
    put_headers(block, np.array([number, -number]), 1_700_000_000.25)
    frames = Frames(block, np.full(2, PAYLOAD_AT + DATAGRAM))
    numbers, sent, final = get_headers(frames)
    assert numbers.tolist()[1] == number
    assert final.tolist()[1]
    if not number & 1 << 31:  # else it is what a sender of 32 bits says at its end
        assert (numbers.tolist()[0], final.tolist()[0]) == (number, False)
    assert sent.tolist() == [1_700_000_000.25] * 2


def test_the_report_of_iperfs_server() -> None:
    assert parse_report(SERVER_ANSWER) == SERVER_REPORT
    assert parse_report(SERVER_ANSWER[:12] + SERVER_ANSWER[16:]) == SERVER_REPORT  # before 2.1
    assert parse_report(SERVER_ANSWER[:50]) is None
    assert parse_report(bytes(128)) is None
    # A datagram that came back as it was: its number's high half is no flags.
    assert parse_report(CLIENT_LAST + b"0123456789" * 12) is None


def test_a_report_holds_numbers_of_any_size() -> None:
    """A host may say what number it likes; the report has room for the low half."""
    number = (1 << 40) + 5
    report = Report(1, 1.0, number - 1, 1 << 31, number, 0.0)
    got = parse_report(pack_report(CLIENT_LAST, report))
    assert got is not None
    assert (got.lost, got.out_of_order, got.datagrams) == (4, -(1 << 31), 5)


@pytest.mark.parametrize("octets", [0, 1_471_470, 2**31, 2**32 - 1, 2**32, 2**45 + 2**31])
def test_a_report_comes_back(octets: int) -> None:
    report = SERVER_REPORT._replace(octets=octets, lost=3, out_of_order=2)
    answer = pack_report(CLIENT_LAST, report)
    assert len(answer) == REPORT_SIZE
    assert answer[:16] == CLIENT_LAST
    got = parse_report(answer)
    assert got is not None
    assert got._replace(seconds=0, jitter=0) == report._replace(seconds=0, jitter=0)
    assert got.seconds == pytest.approx(report.seconds, abs=2e-6)
    assert got.jitter == pytest.approx(report.jitter, abs=2e-6)


# --- the receiver ---


class Wire:
    """A guest with an iperf server, and a client that is this test."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.reports: list[Report] = []
        self.card = FakeCard(self.sent.extend)
        self.stack = Stack(Card(self.card), IP)
        Receiver(self.stack, self.reports.append)

    def send(self, *numbers: int, port: int = 40_000) -> list[Report | None]:
        """Datagrams with these numbers; the reports in the answers."""
        flow = UdpFlow(Host(HOST_MAC, HOST, port), Host(MAC, IP, PORT))
        block = blocks.empty(len(numbers))
        put_headers(block, np.array(numbers), time.time())
        frames = Frames(block, flow.pack(block, np.full(len(numbers), DATAGRAM)))
        self.sent.clear()
        self.card.arrive(*frames.rows())
        while self.stack.poll(time.monotonic()):
            pass
        answers = []
        for frame in self.sent:
            packet = packets.parse_ipv4(frame[14:])
            assert packet is not None
            datagram = packets.parse_udp(packet)
            assert datagram is not None
            assert datagram[:2] == (PORT, port)
            answers.append(parse_report(datagram.payload))
        return answers


def counts(report: Report | None) -> tuple[int, int, int, int]:
    assert report is not None
    return report.datagrams, report.lost, report.out_of_order, report.octets // DATAGRAM


def test_a_whole_test_is_reported_and_again_for_each_repeated_end() -> None:
    wire = Wire()
    assert wire.send(*range(1, 400)) == []
    (report,) = wire.send(-400)
    assert counts(report) == (400, 0, 0, 400)
    again = wire.send(-400, -400)
    assert [counts(each) for each in again] == [(400, 0, 0, 400)] * 2
    assert len(wire.reports) == 1


def test_losses_and_late_datagrams_are_counted() -> None:
    wire = Wire()
    wire.send(1, 2, 3, 7, 5, 6, 10)
    (report,) = wire.send(11, -12)
    assert counts(report) == (12, 3, 2, 9)  # 4, 8 and 9 are missing


def test_the_next_test_starts_from_nothing() -> None:
    wire = Wire()
    (first,) = wire.send(1, 2, -3)
    (second, third) = wire.send(*range(1, 10), -10, *range(1, 5), -7)
    assert [counts(each) for each in (first, second, third)] == [
        (3, 0, 0, 3),
        (10, 0, 0, 10),
        (7, 2, 0, 5),
    ]
    assert len(wire.reports) == 3


def test_datagrams_without_a_header_are_left_alone() -> None:
    wire = Wire()
    datagram = packets.udp(HOST, IP, Udp(1, PORT, b"short"))
    packet = packets.ipv4(packets.Ipv4(HOST, IP, packets.PROTOCOL_UDP, datagram))
    wire.card.arrive(packets.ethernet(MAC, HOST_MAC, packets.ETHERTYPE_IPV4, packet))
    assert wire.stack.poll(time.monotonic())
    (report,) = wire.send(1, -2)
    assert counts(report) == (2, 0, 0, 2)


# --- the sender ---


class Server:
    """A host that runs `iperf -s -u`, on the wire of a guest."""

    def __init__(self, deaf: int = 0) -> None:
        self.card = FakeCard(self.take)
        self.payloads: list[bytes] = []
        self._deaf = deaf  # ends that it does not answer

    def take(self, frames: list[bytes]) -> None:
        for frame in frames:
            if frame[12:14] == b"\x08\x06":
                reply = Arp(packets.ARP_REPLY, HOST_MAC, HOST, MAC, IP)
                self._send(packets.ETHERTYPE_ARP, packets.arp(reply))
                continue
            packet = packets.parse_ipv4(frame[14:])
            assert packet is not None
            datagram = packets.parse_udp(packet)
            assert datagram is not None
            assert datagram[:2] == (LOCAL_PORT, PORT)
            self.payloads.append(datagram.payload)
            if datagram.payload[0] & 0x80:
                self._answer()

    def _answer(self) -> None:
        if self._deaf:
            self._deaf -= 1
            return
        answer = packets.udp(HOST, IP, Udp(PORT, LOCAL_PORT, SERVER_ANSWER))
        packet = packets.ipv4(packets.Ipv4(HOST, IP, packets.PROTOCOL_UDP, answer))
        self._send(packets.ETHERTYPE_IPV4, packet)

    def _send(self, ethertype: int, payload: bytes) -> None:
        self.card.arrive(packets.ethernet(MAC, HOST_MAC, ethertype, payload))


def test_the_sender_numbers_its_datagrams_and_brings_the_servers_report() -> None:
    server = Server()
    sender = Sender(Stack(Card(server.card), IP), HOST, PORT)
    assert sender.run(rate=0, seconds=60, count=1000) == SERVER_REPORT
    assert sender.sent == 1001
    numbers = [int.from_bytes(payload[:4], "big", signed=True) for payload in server.payloads]
    assert numbers == [*range(1, 1001), -1001]
    assert {len(payload) for payload in server.payloads} == {DATAGRAM}
    assert server.payloads[-1][12:16] == b"\xff" * 4
    assert server.payloads[0][16:26] == b"0123456789"
    assert abs(int.from_bytes(server.payloads[0][4:8], "big") - time.time()) < 100


def test_the_end_is_repeated_until_the_report_comes() -> None:
    server = Server(deaf=3)
    sender = Sender(Stack(Card(server.card), IP), HOST, PORT, final_seconds=0.001)
    assert sender.run(0, 60, 5) == SERVER_REPORT
    assert len(server.payloads) == 5 + 4
    deaf = Server(deaf=99)
    sender = Sender(Stack(Card(deaf.card), IP), HOST, PORT, final_seconds=0.001)
    assert sender.run(0, 60, 5) is None
    assert len(deaf.payloads) == 5 + 10


@pytest.mark.slow
def test_the_rate_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a clock of the test's own: what is sent by any time is what the rate allows."""
    now = [100.0]
    server = Server()
    stack = Stack(Card(server.card), IP)
    sender = Sender(stack, HOST, PORT, final_tries=0)
    rate = 8 * DATAGRAM * 100.0  # 100 datagrams a second
    most: list[float] = []

    def poll(until: float) -> bool:
        most.append(len(server.payloads) - (now[0] - 100.0) * 100)
        now[0] = max(now[0] + 1e-4, until)
        return False

    monkeypatch.setattr("coalesced.tools.guests.network.iperf.time.monotonic", lambda: now[0])
    monkeypatch.setattr(stack, "poll", poll)
    sender.run(rate, seconds=10)
    assert len(server.payloads) == 1000
    assert max(most) <= 1.01


def test_the_guest_of_the_bench_leaves_the_servers_report() -> None:
    server = Server()
    serve.send(server.card, "192.0.2.2", "192.0.2.1", seconds=60, count=100, each=1)
    sent = serve.Sent.read(lambda at, size: bytes(server.card.read_memory(at, size)))
    assert sent.sent == 101
    assert sent.server == SERVER_REPORT.summary()


@pytest.mark.parametrize(
    ("text", "rate"), [("0", 0), ("500", 500), ("64K", 64e3), ("50m", 50e6), ("1.5G", 1.5e9)]
)
def test_rates(text: str, rate: float) -> None:
    assert bits_per_second(text) == rate


@pytest.mark.parametrize("text", ["", "x", "-1", "5T", "M", "nan", "inf", "1e30"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(BadInput, match="expected bits per second"):
        bits_per_second(text)
