"""Many frames at a time: the same as one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coalesced.tools.guests.network import blocks, packets
from coalesced.tools.guests.network.blocks import Frames, Host, UdpFlow
from coalesced.tools.guests.network.packets import PAYLOAD_AT, Ipv4, Udp
from coalesced.tools.guests.network.pattern import Pattern

OURS = Host(bytes.fromhex("525400123456"), bytes((192, 0, 2, 2)), 50_000)
THEIRS = Host(bytes.fromhex("5254000000fe"), bytes((192, 0, 2, 1)), 50_001)

payloads = st.lists(st.binary(min_size=18, max_size=1472), min_size=1, max_size=8)


def frame_of(payload: bytes, source: Host = OURS, destination: Host = THEIRS) -> bytes:
    datagram = packets.udp(source.ip, destination.ip, Udp(source.port, destination.port, payload))
    packet = packets.ipv4(Ipv4(source.ip, destination.ip, packets.PROTOCOL_UDP, datagram))
    return packets.ethernet(destination.mac, source.mac, packets.ETHERTYPE_IPV4, packet)


def packed(contents: list[bytes], fill: int = 0xA5) -> Frames:
    """The contents with headers; what lies behind them holds `fill` before."""
    block = np.full((len(contents), blocks.SLOT), fill, np.uint8)
    for row, payload in zip(block, contents, strict=True):
        row[PAYLOAD_AT : PAYLOAD_AT + len(payload)] = np.frombuffer(payload, np.uint8)
    lengths = np.array([len(payload) for payload in contents])
    return Frames(block, UdpFlow(OURS, THEIRS).pack(block, lengths))


@pytest.mark.slow
@given(payloads)
def test_packing_a_block_is_packing_its_frames(contents: list[bytes]) -> None:
    assert packed(contents).rows() == [frame_of(payload) for payload in contents]


@pytest.mark.slow
def test_a_sum_of_zero_is_packed_as_ffff_too() -> None:
    (alone,) = blocks.get16(packed([bytes(18)]).block, packets.UDP_CHECKSUM_AT).tolist()
    # A payload of that number takes the sum to 0, its neighbours do not.
    around = range(max(alone - 500, 0), min(alone + 500, 1 << 16))
    contents = [bytes(16) + number.to_bytes(2, "big") for number in around]
    frames = packed(contents)
    sums = blocks.get16(frames.block, packets.UDP_CHECKSUM_AT)
    assert (sums != 0).all()
    # 0x0000 and 0xffff are the same to the sum, and one payload beside them gives 0xffff.
    (special,) = set(np.flatnonzero(sums == 0xFFFF).tolist())
    assert frames.rows()[special] == frame_of(contents[special])


@pytest.mark.slow
@given(payloads, st.data())
def test_a_flow_finds_its_own_frames_among_others(
    contents: list[bytes], data: st.DataObject
) -> None:
    rows, ours = [], []
    for payload in contents:
        kind = data.draw(st.sampled_from(("ours", "mac", "ip", "port", "damaged", "cut", "arp")))
        wrong = {
            "mac": THEIRS._replace(mac=OURS.mac),
            "ip": THEIRS._replace(ip=OURS.ip),
            "port": THEIRS._replace(port=7),
        }
        row = frame_of(payload, destination=wrong.get(kind, THEIRS))
        if kind == "damaged":
            at = data.draw(st.integers(14, len(row) - 1))
            row = row[:at] + bytes((row[at] ^ data.draw(st.integers(1, 255)),)) + row[at + 1 :]
        elif kind == "cut":
            row = row[: data.draw(st.integers(0, len(row) - 1))]
        elif kind == "arp":
            row = row[:12] + b"\x08\x06" + row[14:]
        rows.append(row)
        ours.append(one_by_one(row))
    found = blocks.udp_to(blocks.of_rows(rows), THEIRS.mac, THEIRS.ip, THEIRS.port)
    assert found.tolist() == ours


def one_by_one(row: bytes) -> bool:
    """True for a whole datagram to THEIRS."""
    if row[:6] != THEIRS.mac or row[12:14] != b"\x08\x00":
        return False
    packet = packets.parse_ipv4(row[14:])
    if packet is None or packet.destination != THEIRS.ip or packet.protocol != 17:
        return False
    datagram = packets.parse_udp(packet)
    whole = datagram is not None and len(datagram.payload) + 8 == len(packet.payload)
    return whole and datagram is not None and datagram.destination_port == THEIRS.port


def test_frames_of_any_length_become_rows() -> None:
    frames = blocks.of_rows([b"", b"x" * 60, b"y" * 65535])
    assert frames.lengths.tolist() == [0, 60, 65535]
    assert frames.rows()[:2] == [b"", b"x" * 60]
    assert not blocks.udp_to(frames, THEIRS.mac, THEIRS.ip, 7).any()


# --- the pattern of the demonstration ---


def test_frames_of_a_pattern_are_sound_and_numbered_and_of_all_lengths() -> None:
    pattern = Pattern(OURS, THEIRS, seed=1)
    frames = pattern.frames(65_530, 600)
    assert blocks.udp_to(frames, THEIRS.mac, THEIRS.ip, THEIRS.port).all()
    numbers = [int.from_bytes(row[PAYLOAD_AT : PAYLOAD_AT + 4], "big") for row in frames.rows()]
    assert numbers == list(range(65_530, 66_130))
    assert {60, 1514} <= set(frames.lengths.tolist())
    assert len(set(frames.lengths.tolist())) > 300


def test_frames_of_a_pattern_do_not_depend_on_how_they_are_asked_for() -> None:
    pattern = Pattern(OURS, THEIRS, seed=2)
    together = pattern.frames(500, 20).rows()
    assert together == [pattern.frames(number, 1).rows()[0] for number in range(500, 520)]
    assert together == Pattern(OURS, THEIRS, seed=2).frames(500, 20).rows()
    assert together != Pattern(OURS, THEIRS, seed=3).frames(500, 20).rows()


@pytest.mark.slow
@given(st.integers(0, 5000), st.data())
def test_a_wrong_byte_anywhere_in_a_frame_is_found(first: int, data: st.DataObject) -> None:
    pattern = Pattern(OURS, THEIRS, seed=4)
    good = pattern.frames(first, 5)
    behind = good.block.copy()
    for row, length in zip(behind, good.lengths, strict=True):
        row[length:] ^= 0xFF
    assert pattern.wrong(Frames(behind, good.lengths), first) == 0
    which = data.draw(st.integers(0, 4))
    at = data.draw(st.integers(0, int(good.lengths[which]) - 1))
    bad = good.block.copy()
    bad[which, at] ^= data.draw(st.integers(1, 255))
    assert pattern.wrong(Frames(bad, good.lengths), first) == 1
    lengths = good.lengths.copy()
    lengths[which] -= 1
    assert pattern.wrong(Frames(good.block, lengths), first) == 1
    assert pattern.wrong(good, first + 1) == 5
