"""Scripts about what the e1000 sends."""

from __future__ import annotations

import random
import struct

from conformance_e1000 import (
    BAR,
    BROADCAST,
    DATA,
    DATA_DESCRIPTOR,
    DATA_SIZE,
    MAC,
    ON_WIRE,
    SEND_RING,
    SLOT,
    data_of,
    descriptor,
    map_bars,
    send_setup,
    sent,
    statistics,
    write,
)
from conformance_script import Lines, Script, seeded

from coalesced.devices.e1000 import offload as sums
from coalesced.devices.e1000 import registers as reg
from coalesced.devices.e1000 import transmit as tx


def _context(rng: random.Random, wild: bool) -> tuple[bytes, int, int]:
    """A context descriptor: its first half, command and length, status and more."""
    ipv4, tcp, segmented = (rng.random() < 0.7 for _ in range(3))
    if wild:
        half = rng.randbytes(8)
        payload = rng.randrange(1 << 20)
        header = rng.choice((1, 54, rng.randrange(1, 256)))  # never 0: see DIFFERENCES
        mss = rng.choice((0, rng.randrange(300, 2000), rng.randrange(65536)))
    else:
        ip = 20 if ipv4 else 40
        half = struct.pack(
            "<BBHBBH",
            14,
            24 if ipv4 else 0,
            13 + ip if rng.random() < 0.7 else 0,
            14 + ip,
            14 + ip + (16 if tcp else 6),
            rng.choice((0, 0, 60 + ip)),
        )
        payload, header = rng.randrange(1, 6000), 14 + ip + (20 if tcp else 8)
        mss = rng.choice((536, 1000, 1448, rng.randrange(200, 3000)))
    command = tx.DEXT | payload
    command |= sums.TCP * tcp | sums.IP * ipv4 | sums.TSE * segmented
    command |= rng.choice((0, tx.RS, tx.IDE))
    return half, command, header << 8 | mss << 16 | rng.randrange(256)


def _lengths(rng: random.Random) -> int:
    return rng.choice((1, 14, 60, 64, 124, 200, 1000, 1448, 1514, rng.randrange(1, 3000)))


def _flags(rng: random.Random) -> int:
    flags = sum(bit for bit, p in ((tx.RS, 0.5), (tx.RPS, 0.05), (tx.IDE, 0.1)) if rng.random() < p)
    return flags | (tx.VLE if rng.random() < 0.2 else 0) | (tx.EOP if rng.random() < 0.6 else 0)


def _random_ring(lines: Lines, rng: random.Random, wild: bool) -> None:
    """Fill a ring with descriptors of all kinds, piece by piece."""
    count = rng.choice((8, 16, 32))
    head = rng.randrange(count)
    write(lines, reg.CTRL, rng.choice((0x140240, 0x140240 | reg.CTRL_VME)))
    write(lines, reg.VET, rng.choice((0x8100, 0x8100, 0x88A8)))
    send_setup(lines, count, head)
    for _ in range(rng.randrange(1, 4)):
        segmented = False
        for _ in range(rng.randrange(1, count)):
            kind, address = rng.random(), DATA + rng.randrange(DATA_SIZE - 0x1000)
            length, flags, upper = _lengths(rng), _flags(rng), rng.randrange(1 << 32)
            if kind < 0.25:
                lower = length | flags | rng.randrange(256) << 16
                descriptor(lines, head, address, lower, upper)
            elif kind < 0.4:
                half, lower, upper = _context(rng, wild)
                descriptor(lines, head, int.from_bytes(half, "little"), lower, upper)
            else:
                if rng.random() < 0.3:
                    segmented = not segmented
                lower = length | flags | DATA_DESCRIPTOR | sums.TSE * segmented
                descriptor(lines, head, address, lower, upper)
            head = (head + 1) % count
        write(lines, reg.TDT, head)
        sent(lines, count)
    descriptor(lines, head, DATA, DATA_DESCRIPTOR | tx.EOP | 60)  # ends whatever has begun
    write(lines, reg.TDT, (head + 1) % count)
    sent(lines, count)


def _transmit(lines: Lines) -> None:
    """Random rings; tails and heads that make no sense; memory that is none; statistics."""
    rng = seeded("e1000 transmit")
    map_bars(lines)
    lines.write(DATA, data_of(rng))
    send_setup(lines, 8)
    half, lower, upper = _context(rng, wild=False)
    descriptor(lines, 0, int.from_bytes(half, "little"), lower | sums.TSE, upper)
    write(lines, reg.TDT, 1)
    for turn in range(40):
        _random_ring(lines, rng, wild=turn % 3 == 2)
        if turn % 4 == 0:
            statistics(lines)
    statistics(lines)
    write(lines, reg.CTRL, 0x140240)
    simple = tx.EOP | tx.RS | 64
    for count, head, tail in (
        (8, 0, 8),
        (8, 3, 20),
        (8, 9, 2),
        (8, 7, 0xFFFF),
        (0, 0, 3),
        (8, 8, 9),
    ):
        for index in range(24):
            descriptor(lines, index, DATA + 64 * index, simple, 0xFFFFFFFF)
        send_setup(lines, count)
        write(lines, reg.TDH, head)
        write(lines, reg.TDT, tail)
        sent(lines, 24)
    for base in (0xFF_FFF0, 0x100_0000, 0xFFFF_FFF0, BAR + reg.RA):
        send_setup(lines, 8)
        write(lines, reg.TDBAL, base)
        write(lines, reg.TDT, 3)
        sent(lines, 1)
    for address in (0xFF_FFE0, 0x100_0000, BAR + reg.RA, BAR + reg.ICR, (1 << 64) - 32, 1 << 40):
        send_setup(lines, 8)
        descriptor(lines, 0, address, simple)
        write(lines, reg.TDT, 1)
        sent(lines, 1)
    send_setup(lines, 8)
    for index in range(6):  # the ring as data, which is written back meanwhile
        descriptor(lines, index, SEND_RING, tx.EOP | tx.RS | 128)
    write(lines, reg.TDT, 6)
    sent(lines, 8)
    lines.config_write(SLOT, 0x04, 3, 2)  # no bus master
    write(lines, reg.TDT, 7)
    sent(lines, 8)
    lines.config_write(SLOT, 0x04, 7, 2)
    write(lines, reg.TCTL, 0)
    write(lines, reg.TDT, 2)
    sent(lines, 8)
    write(lines, reg.TCTL, reg.TCTL_EN)
    sent(lines, 8)
    statistics(lines)


def _headers(ipv4: bool, tcp: bool) -> bytes:
    """Ethernet, IP and TCP or UDP of a frame that is to be segmented."""
    link = BROADCAST + MAC + (b"\x08\x00" if ipv4 else b"\x86\xdd")
    kind = 6 if tcp else 17
    if ipv4:
        ip = struct.pack(
            ">BBHHHBBH4s4s", 0x45, 0, 0, 0xFFFE, 0x4000, 64, kind, 0, b"\x0a\0\0\1", MAC[:4]
        )
    else:
        ip = struct.pack(">IHBB16s16s", 0x60000000, 0, kind, 64, MAC + bytes(10), bytes(10) + MAC)
    if tcp:
        return (
            link
            + ip
            + struct.pack(">HHIIBBHHH", 80, 443, 0xFFFFF000, 1, 0x50, 0xFF, 1024, 0x1234, 0)
        )
    return link + ip + struct.pack(">HHHH", 53, 53, 0, 0xFFF0)


def _segmentation(lines: Lines) -> None:
    """TCP and UDP over IPv4 and IPv6, all sizes, in one buffer and in several; odd contexts."""
    rng = seeded("e1000 segmentation")
    map_bars(lines)
    lines.write(DATA, data_of(rng))
    for ipv4 in (True, False):
        for tcp in (True, False):
            header = _headers(ipv4, tcp)
            lines.write(DATA + 0x1000, header)
            ip = 20 if ipv4 else 40
            places = struct.pack(
                "<BBHBBH", 14, 24, 13 + ip, 14 + ip, 14 + ip + (16 if tcp else 6), 0
            )
            for mss, payload in (
                (1448, 1),
                (1448, 1448),
                (1448, 1449),
                (536, 4000),
                (1, 9),
                (100, 250),
            ):
                for pieces in (1, 3):
                    for options in (sums.IXSM * ipv4 | sums.TXSM, sums.IXSM, 0):
                        _segmented(
                            lines, (places, header, ipv4, tcp), mss, payload, pieces, options
                        )
    for header_length, mss, payload in (
        (54, 0, 100),
        (0, 100, 260),
        (200, 100, 60),
        (255, 1, 300),
        (54, 65535, 60000),
        (255, 65535, 65535),
    ):
        send_setup(lines, 8)
        half = struct.pack("<BBHBBH", 14, 24, 33, 34, 50, 0)
        command = tx.DEXT | sums.TSE | sums.IP | sums.TCP | payload
        descriptor(
            lines, 0, int.from_bytes(half, "little"), command, header_length << 8 | mss << 16
        )
        lower = DATA_DESCRIPTOR | sums.TSE | payload
        descriptor(lines, 1, DATA, lower, 3 << 8)
        descriptor(lines, 2, DATA, lower | tx.EOP | tx.RS, 3 << 8)
        write(lines, reg.TDT, 3)
        sent(lines, 3)
    statistics(lines)


def _segmented(
    lines: Lines,
    frame: tuple[bytes, bytes, bool, bool],
    mss: int,
    payload: int,
    pieces: int,
    options: int,
) -> None:
    """One frame to be segmented; in `pieces` buffers, of which the first holds the headers."""
    places, header, ipv4, tcp = frame
    send_setup(lines, 8)
    command = tx.DEXT | sums.TSE | sums.IP * ipv4 | sums.TCP * tcp | payload
    descriptor(lines, 0, int.from_bytes(places, "little"), command, len(header) << 8 | mss << 16)
    lower = DATA_DESCRIPTOR | sums.TSE
    if pieces == 1:
        sizes = [len(header) + payload]
    else:
        sizes = [len(header), payload // 2, payload - payload // 2]
    address = DATA + 0x1000
    for index, size in enumerate(sizes, start=1):
        last = tx.EOP | tx.RS if index == len(sizes) else 0
        descriptor(lines, index, address, lower | size | last, options << 8)
        address += size
    write(lines, reg.TDT, 1 + len(sizes))
    sent(lines, 1 + len(sizes))


def _differences(lines: Lines) -> None:
    """A frame without a byte: see DIFFERENCES."""
    map_bars(lines)
    lines.memset(DATA, 64, 0x5A)
    send_setup(lines, 8)
    descriptor(lines, 0, DATA, tx.EOP)
    descriptor(lines, 1, DATA, tx.EOP | 16)
    write(lines, reg.TDT, 2)
    sent(lines, 8)


SCRIPTS = (
    Script("e1000-differences", ON_WIRE, _differences, network=True),
    Script("e1000-transmit", ON_WIRE, _transmit, network=True),
    Script("e1000-segmentation", ON_WIRE, _segmentation, network=True),
)
