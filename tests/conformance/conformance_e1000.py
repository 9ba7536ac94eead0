"""Scripts about the e1000: registers, EEPROM, PHY, what it sends and receives, its interrupts.

A script that receives lets a second pass after each write of RCTL: the card's hold-off.
"""

from __future__ import annotations

import random
import struct

from conformance_script import Lines, Script, seeded

from coalesced.devices.e1000 import eeprom, phy
from coalesced.devices.e1000 import offload as sums
from coalesced.devices.e1000 import registers as reg
from coalesced.devices.e1000 import transmit as tx

BAR = 0xE000_0000
PORTS = 0xC000
SLOT = 3
DEVICE = ("e1000,addr=03.0",)
ON_WIRE = ("e1000,addr=03.0,netdev=n0",)

MAC = reg.RECEIVE_ADDRESS
BROADCAST = b"\xff" * 6
MULTICAST = bytes.fromhex("01005e010203")
OTHER = bytes.fromhex("525400123457")

SEND_RING = 0x10_0000
RECEIVE_RING = 0x11_0000
DATA = 0x20_0000
DATA_SIZE = 0x2_0000
BUFFERS = 0x30_0000
BUFFER_STEP = 0x5000

DATA_DESCRIPTOR = tx.DEXT | tx.DTYP_DATA
HOLD_OFF = 1050
STATISTICS = (
    *range(reg.MPC, reg.MPC + 4, 4),
    *range(reg.PRC64, reg.GPTC + 4, 4),
    *range(reg.GORCL, reg.GOTCH + 4, 4),
    reg.RNBC,
    reg.ROC,
    *range(reg.TORL, reg.TSCTC + 4, 4),
)


def write(lines: Lines, register: int, value: int, size: int = 4) -> None:
    """Write a register."""
    lines.store(BAR + register, value, size)


def read(lines: Lines, register: int, size: int = 4) -> None:
    """Read a register."""
    lines.load(BAR + register, size)


def map_bars(lines: Lines) -> None:
    """Registers at BAR, bus master."""
    lines.config_write(SLOT, 0x10, BAR)
    lines.config_write(SLOT, 0x14, PORTS)
    lines.config_write(SLOT, 0x04, 7, 2)


def statistics(lines: Lines) -> None:
    """Read every counter that can count."""
    for register in STATISTICS:
        read(lines, register)


def data_of(rng: random.Random) -> bytes:
    """What the guest has in memory: random, with a stretch of zeros."""
    data = bytearray(rng.randbytes(DATA_SIZE))
    data[0x8000:0xA000] = bytes(0x2000)
    return bytes(data)


# --- registers ---

_OFFSETS = (
    *range(0x0000, 0x0470, 4),
    0x0E00,
    *range(0x0FFC, 0x1008, 4),
    *range(0x2400, 0x2440, 4),
    *range(0x27FC, 0x2834, 4),
    *range(0x3400, 0x3440, 4),
    *range(0x37FC, 0x3834, 4),
    *range(0x4000, 0x4104, 4),
    *range(0x51FC, 0x5410, 12),
    *range(0x5470, 0x5490, 4),
    *range(0x55F8, 0x5820, 20),
    *range(0x5800, 0x58A0, 4),
    *range(0x59FC, 0x5A90, 8),
    *range(0x5B4C, 0x5B58, 4),
    *range(0x5EFC, 0x5F28, 4),
    *range(0x8FFC, 0x9020, 4),
    *range(0x93F0, 0x9408, 4),
    *range(0x97F8, 0x9810, 4),
    *range(0x9BF0, 0x9C08, 4),
    0xFFFC,
    0x10000,
    0x18000,
    0x1FFFC,
)


def _registers(lines: Lines) -> None:
    """Every register with patterns; then all sizes and alignments; the ports; reset by CTRL."""
    map_bars(lines)
    for offset in _OFFSETS:
        read(lines, offset)
    for value in (0xFFFFFFFF, 0x5AA5C33C, 0x00000000):
        for offset in _OFFSETS:
            # TCTL without EN: no ring is there. MDIC without a command.
            keep = {reg.TCTL: ~reg.TCTL_EN, reg.MDIC: 0xFFFF}.get(offset, -1)
            write(lines, offset, value & keep)
            read(lines, offset)
    _register_sizes(lines)
    write(lines, reg.IMC, 0xFFFFFFFF)
    for port in range(PORTS, PORTS + 0x40, 3):
        for size in (1, 2, 4):
            lines.out(port, reg.CTRL, size)
            lines.in_(port, size)
    write(lines, reg.CTRL, reg.CTRL_RST | reg.CTRL_VME)
    for offset in (reg.CTRL, reg.STATUS, reg.RA, reg.VET):
        read(lines, offset)
    for offset in range(0, 0x100, 4):
        lines.config_read(SLOT, offset)
    for offset in (0x10, 0x14, 0x18, 0x30, 0x3C):
        lines.config_write(SLOT, offset, 0xFFFFFFFF)
        lines.config_read(SLOT, offset)


def _register_sizes(lines: Lines) -> None:
    """All sizes and alignments, also in one command, and at the end of the BAR."""
    rng = seeded("e1000 registers")
    for _ in range(600):
        offset = rng.choice((reg.RA, reg.MTA, reg.VFTA + 0x1F8, reg.ITR, reg.RDH, reg.WUPM))
        offset += rng.randrange(16)
        size = rng.choice((1, 2, 4, 8))
        if rng.random() < 0.5:
            write(lines, offset, rng.randrange(1 << 8 * size), size)
        else:
            read(lines, offset, size)
    for offset in (0xFFE, 0xFFF, 0x1FFF, 0x1FFF8, 0x1FFF9, 0x1FFFC, 0x1FFFD, 0x1FFFF):
        for size in (1, 2, 4, 8):
            write(lines, offset, 0x8877665544332211 & (1 << 8 * size) - 1, size)
            read(lines, offset, size)
    lines.read(BAR + 0x5400, 0x44)
    lines.write(BAR + 0x5403, rng.randbytes(30))
    lines.read(BAR + 0x53FD, 0x44)


def _eecd(lines: Lines, command: int, bits: int, extra: int) -> None:
    """Shift a command of so many bits in, and more bits than a word out."""
    write(lines, reg.EECD, 0)
    write(lines, reg.EECD, eeprom.EECD_CS)
    for bit in range(bits - 1, -1, -1):
        level = eeprom.EECD_CS | (eeprom.EECD_DI if command >> bit & 1 else 0)
        for pins in (level, level | eeprom.EECD_SK):
            write(lines, reg.EECD, pins)
        read(lines, reg.EECD)
        write(lines, reg.EECD, level)
    for _ in range(extra):
        write(lines, reg.EECD, eeprom.EECD_CS | eeprom.EECD_SK)
        read(lines, reg.EECD)
        write(lines, reg.EECD, eeprom.EECD_CS)
        read(lines, reg.EECD)


def _mdic(lines: Lines, command: int, register: int, value: int = 0, address: int = 1) -> None:
    select = address << phy.MDIC_PHY_SHIFT | register << phy.MDIC_REGISTER_SHIFT
    write(lines, reg.MDIC, command | select | value)
    read(lines, reg.MDIC)


def _eeprom_and_phy(lines: Lines) -> None:
    """All words and all PHY registers, by all ways; interrupts of MDIC."""
    rng = seeded("e1000 eeprom")
    map_bars(lines)
    for word in (*range(eeprom.WORDS + 2), 0x7F, 0x100, 0xFFFF):
        write(lines, reg.EERD, word << 8 | reg.EERD_START)
        read(lines, reg.EERD)
    for value in (0, reg.EERD_DONE, 0xFFFFFFFE, 0xABCD0311, 0x0003_03FF):
        write(lines, reg.EERD, value)
        read(lines, reg.EERD)
    for word in (0, 1, 2, 0x0B, 0x24, 0x3F):
        _eecd(lines, 0b110_000000 | word, 9, 18)
    _eecd(lines, 0b110_000000, 9, 40)  # into the next words
    _eecd(lines, 0b110_111111, 9, 40)  # and around
    for command in (0b100_110000, 0b101_000001, 0b111_000001, 0b010_000001, 0b011_000000):
        _eecd(lines, command, 9, 4)
    _eecd(lines, 0b0_110_000001, 10, 4)
    _eecd(lines, 0b11000000, 8, 4)
    for _ in range(300):
        write(lines, reg.EECD, rng.randrange(0x200))
        read(lines, reg.EECD)
    for register in range(32):
        _mdic(lines, phy.MDIC_READ, register)
    for value in (0xFFFF & ~phy.BMCR_ANRESTART, 0xA5C3 & ~phy.BMCR_ANRESTART, 0x0000):
        for register in range(32):
            _mdic(lines, phy.MDIC_WRITE, register, value)
            _mdic(lines, phy.MDIC_READ, register)
    for address in (0, 1, 2, 31):
        for command in (0, phy.MDIC_READ, phy.MDIC_WRITE, phy.MDIC_READ | phy.MDIC_WRITE):
            for more in (0, phy.MDIC_INT_EN, phy.MDIC_ERROR, phy.MDIC_READY, 1 << 31):
                _mdic(lines, command | more, rng.randrange(32), 0x1234, address)
                read(lines, reg.ICS)
                read(lines, reg.ICR)


# --- transmit ---


def send_setup(lines: Lines, count: int, head: int = 0) -> None:
    """A ring of `count` descriptors at SEND_RING, empty at `head`."""
    for register, value in (
        (reg.TCTL, 0),
        (reg.TDBAL, SEND_RING | 0xF),
        (reg.TDBAH, 0),
        (reg.TDLEN, 16 * count),
        (reg.TDH, head),
        (reg.TDT, head),
        (reg.TCTL, reg.TCTL_EN),
    ):
        write(lines, register, value)


def descriptor(lines: Lines, index: int, address: int, lower: int, upper: int = 0) -> None:
    lines.write(SEND_RING + 16 * index, struct.pack("<QII", address, lower, upper))


def sent(lines: Lines, count: int) -> None:
    """Look at what a write of TDT has done."""
    lines.frames()
    lines.read(SEND_RING, 16 * count)
    for register in (reg.TDH, reg.TDT, reg.ICR):
        read(lines, register)


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


# --- receive ---


class Receiving:
    """A ring of descriptors at RECEIVE_RING, and frames for it."""

    def __init__(self, lines: Lines, count: int = 8) -> None:
        self.lines = lines
        self.count = count
        write(lines, reg.RDBAL, RECEIVE_RING)
        write(lines, reg.RDLEN, 16 * count)

    def turn_on(self, rctl: int) -> None:
        """Write RCTL, and wait for the end of its hold-off; the ring is empty."""
        write(self.lines, reg.RDH, 0)
        write(self.lines, reg.RDT, 0)
        write(self.lines, reg.RCTL, rctl | reg.RCTL_EN)
        self.lines.wait(HOLD_OFF)

    def give(self, tail: int, head: int = 0, addresses: tuple[int, ...] | None = None) -> None:
        """New buffers, or those at `addresses`, from `head` to `tail`."""
        for index in range(self.count):
            default = BUFFERS + BUFFER_STEP * index
            address = default if addresses is None else addresses[index % len(addresses)]
            stale = bytes((0xA5,)) * 8
            self.lines.write(RECEIVE_RING + 16 * index, struct.pack("<Q", address) + stale)
            self.lines.memset(default, 0x60, 0xEE)
        write(self.lines, reg.RDH, head)
        write(self.lines, reg.RDT, tail)
        read(self.lines, reg.RDT)

    def look(self, size: int = 0x60) -> None:
        """What has come."""
        for register in (reg.RDH, reg.ICR):
            read(self.lines, register)
        self.lines.read(RECEIVE_RING, 16 * self.count)
        for index in range(self.count):
            self.lines.read(BUFFERS + BUFFER_STEP * index, size)

    def frames(self, *frames: bytes) -> None:
        """Send frames to the card, and look after each."""
        for frame in frames:
            self.lines.frame(frame)
            for register in (reg.RDH, reg.ICR):
                read(self.lines, register)


def frame_of(length: int, target: bytes = MAC) -> bytes:
    """A frame for somebody."""
    return target + bytes((7 * at + length) & 0xFF for at in range(length - len(target)))


def tagged(tag: int, length: int = 64, kind: int = 0x8100) -> bytes:
    """A frame of a VLAN."""
    return MAC + OTHER + struct.pack(">HH", kind, tag) + bytes(range(length - 16))


def _receive(lines: Lines) -> None:
    """One descriptor and many, the sizes of buffers and frames, waiting frames, odd rings."""
    map_bars(lines)
    ring = Receiving(lines)
    ring.turn_on(reg.RCTL_BAM)
    lines.frame(frame_of(100))  # waits
    ring.give(7)
    ring.look()
    for length in (14, 59, 60, 61, 123, 124, 125, 1019, 1020, 1514, 1522, 1523, 2000):
        ring.give(7)
        ring.frames(frame_of(length))
        ring.look()
        statistics(lines)
    ring.give(1)
    ring.frames(frame_of(64), frame_of(65), frame_of(66))
    write(lines, reg.RDT, 3)
    lines.wait(1)
    ring.look()
    ring.give(4, addresses=(BUFFERS, 0, BAR + reg.RA, 0x100_0000))  # of which only one is memory
    ring.frames(*[frame_of(200)] * 3)
    ring.look()
    read(lines, reg.RA)
    lines.config_write(SLOT, 0x04, 3, 2)
    ring.give(7)
    ring.frames(frame_of(80))
    lines.config_write(SLOT, 0x04, 7, 2)
    lines.wait(1)
    ring.look()
    _receive_into_many(lines, ring)
    big = reg.RCTL_UPE | reg.RCTL_SBP | reg.RCTL_SECRC | reg.RCTL_BSEX | 1 << reg.RCTL_BSIZE_SHIFT
    ring.turn_on(big | 2 << reg.RCTL_RDMTS_SHIFT)
    ring.give(7)
    ring.frames(frame_of(16384), frame_of(16385), frame_of(60), frame_of(9000), frame_of(61))
    ring.look()
    statistics(lines)


def _receive_into_many(lines: Lines, ring: Receiving) -> None:
    """Frames of several descriptors; rings that are too short, wrap, or make no sense."""
    small = reg.RCTL_UPE | reg.RCTL_LPE | 3 << reg.RCTL_BSIZE_SHIFT
    ring.turn_on(small)
    for tail, frame in ((3, 700), (6, 700), (1, 300), (7, 252), (7, 254), (7, 256), (7, 1788)):
        ring.give(tail)
        ring.frames(frame_of(frame))
        ring.look()
    for head, tail, length in (
        (0, 9, 2044),
        (0, 20, 2556),
        (20, 3, 100),
        (1, 0, 1788),
        (5, 4, 700),
    ):
        ring.give(tail, head)
        ring.frames(frame_of(length))
        ring.look()
    ring.give(7, addresses=(BUFFERS, 0, 0, BUFFERS + BUFFER_STEP))
    ring.frames(frame_of(400))
    ring.look(0x110)
    ring.give(7, addresses=(BUFFERS, 0, 0, 0, 0, 0, 0, 0))
    ring.frames(frame_of(400))
    ring.look()
    ring.give(7, addresses=(RECEIVE_RING, RECEIVE_RING + 32, BUFFERS))  # over itself
    ring.frames(frame_of(60), frame_of(200))
    ring.look()
    write(lines, reg.RDLEN, 0)
    ring.give(3)
    ring.frames(frame_of(100))
    write(lines, reg.RDLEN, 128)
    ring.look()
    statistics(lines)


def _filters(lines: Lines) -> None:
    """Addresses, the multicast table by each RCTL.MO, VLANs, promiscuous modes; the link."""
    map_bars(lines)
    ring = Receiving(lines)
    write(lines, reg.RA + 8 * 15, int.from_bytes(OTHER[:4], "little"))
    write(lines, reg.RA + 8 * 15 + 4, int.from_bytes(OTHER[4:], "little") | reg.RAH_AV | 1 << 18)
    write(lines, reg.RA + 8, int.from_bytes(MULTICAST[:4], "little"))
    write(lines, reg.RA + 12, int.from_bytes(MULTICAST[4:], "little"))  # not valid
    strangers = (MULTICAST, BROADCAST, bytes.fromhex("5254001234ff"), bytes.fromhex("3333fffe0001"))
    modes = (reg.RCTL_VFE, reg.RCTL_BAM | reg.RCTL_VFE, reg.RCTL_MPE | reg.RCTL_BAM, reg.RCTL_UPE)
    for mo, (mode, shift) in enumerate(zip(modes, (4, 3, 2, 0), strict=True)):
        ring.turn_on(mode | mo << reg.RCTL_MO_SHIFT)
        ring.give(7)
        for target in (MAC, OTHER, *strangers):
            number = (target[5] << 8 | target[4]) >> shift & 0xFFF
            for value in (0, 1 << (number & 31)):
                write(lines, reg.MTA + 4 * (number >> 5), value)
                ring.frames(frame_of(64, target))
            write(lines, reg.MTA + 4 * (number >> 5), 0)
            write(lines, reg.RDT, 6)
        for strip in (0, reg.CTRL_VME):
            write(lines, reg.CTRL, 0x140240 | strip)
            for kind in (0x8100, 0x88A8):
                write(lines, reg.VET, kind)
                for allowed in (0, 1 << 4):
                    write(lines, reg.VFTA + 4 * 3, allowed)
                    ring.give(7)
                    ring.frames(tagged(0x2064), tagged(0x2065), tagged(0x64, 60, 0x88A8))
                    ring.look()
        write(lines, reg.CTRL, 0x140240)
        write(lines, reg.VET, 0x8100)
        statistics(lines)
    ring.give(7)
    _mdic(lines, phy.MDIC_WRITE, phy.BMCR, phy.BMCR_AUTOEN | phy.BMCR_ANRESTART)
    ring.frames(frame_of(100))
    _mdic(lines, phy.MDIC_READ, phy.BMSR)
    read(lines, reg.STATUS)
    lines.wait(700)
    ring.look()
    _mdic(lines, phy.MDIC_READ, phy.BMSR)
    _mdic(lines, phy.MDIC_READ, phy.ANLPAR)
    read(lines, reg.STATUS)


def _loopback(lines: Lines) -> None:
    """What is sent comes back: whole, runt and long frames, tags, onto the rings themselves."""
    rng = seeded("e1000 loopback")
    map_bars(lines)
    data = bytearray(data_of(rng))
    data[:6] = MAC
    lines.write(DATA, bytes(data))
    _mdic(lines, phy.MDIC_WRITE, phy.BMCR, phy.BMCR_LOOPBACK | 0x0140)
    ring = Receiving(lines)
    send_setup(lines, 8)
    write(lines, reg.RCTL, reg.RCTL_EN | reg.RCTL_UPE)
    ring.give(7)
    descriptor(lines, 0, DATA, tx.EOP | tx.RS | 100)
    write(lines, reg.TDT, 1)
    sent(lines, 8)  # lost
    ring.look()
    ring.turn_on(reg.RCTL_UPE | reg.RCTL_BAM)
    position = 1
    for length in (1, 5, 13, 14, 59, 60, 64, 1000, 1522, 1523, 4000):
        ring.give(7)
        descriptor(lines, position, DATA, tx.EOP | tx.RS | length)
        position = (position + 1) % 8
        write(lines, reg.TDT, position)
        sent(lines, 8)
        ring.look()
        statistics(lines)
    write(lines, reg.CTRL, 0x140240 | reg.CTRL_VME)
    for length in (60, 100):
        ring.give(7)
        descriptor(lines, position, DATA, tx.EOP | tx.VLE | length, 0x1234_0000)
        position = (position + 1) % 8
        write(lines, reg.TDT, position)
        sent(lines, 8)
        ring.look()
    write(lines, reg.CTRL, 0x140240)
    # The first frame is received where the second one's descriptor lies, and is a descriptor.
    lines.write(DATA + 0x1000, struct.pack("<QII", DATA, tx.EOP | tx.RS | 90, 0) + bytes(100))
    ring.give(7, addresses=(SEND_RING + 16, BUFFERS))
    send_setup(lines, 8)
    descriptor(lines, 0, DATA + 0x1000, tx.EOP | tx.RS | 64)
    descriptor(lines, 1, DATA, tx.EOP | tx.RS | 70)
    write(lines, reg.TDT, 2)
    sent(lines, 8)
    ring.look()
    statistics(lines)
    _mdic(lines, phy.MDIC_WRITE, phy.BMCR, 0x1140)
    write(lines, reg.RCTL, reg.RCTL_EN | 3 << 6)  # RCTL.LBM, which does nothing
    descriptor(lines, 2, DATA, tx.EOP | tx.RS | 70)
    write(lines, reg.TDT, 3)
    sent(lines, 8)


# --- interrupts ---

_ITR = 0xFFFF  # 16.8 ms
_AFTER_ITR = 30  # ms


def _line(lines: Lines) -> None:
    lines.config_read(SLOT, 0x06, 2)


def _interrupts(lines: Lines) -> None:
    """Causes, masks and the line; the throttle and what shortens it."""
    map_bars(lines)
    for register, value in (
        (reg.ICS, 0x10),
        (reg.IMS, 0x01),
        (reg.IMS, 0x30),
        (reg.IMC, 0x20),
        (reg.ICR, 0x0F),
        (reg.IMC, 0x10),
        (reg.IMS, 0x10),
        (reg.ICR, 0x10),
        (reg.ICS, 0xFFFFFFFF),
    ):
        write(lines, register, value)
        lines.wait(_AFTER_ITR)
        for other in (reg.ICS, reg.IMS, reg.IMC):
            read(lines, other)
        _line(lines)
    read(lines, reg.ICR)
    _line(lines)
    write(lines, reg.IMC, 0xFFFFFFFF)
    write(lines, reg.IMS, 0x83)
    lines.wait(_AFTER_ITR)
    write(lines, reg.ITR, _ITR)
    send_setup(lines, 8)
    read(lines, reg.ICR)
    lines.wait(_AFTER_ITR)
    for tadv, rdtr, radv, flags, cause in (
        (0, 0, 0, 0, 0x80),  # the throttle alone
        (10, 0, 0, tx.IDE, 0),  # shortened by the delay of a transmit interrupt
        (10, 0, 0, 0, 0),
        (0, 1, 10, 0, 0x80),  # and of a receive interrupt
        (0, 0, 10, 0, 0x80),
    ):
        for register, value in ((reg.TADV, tadv), (reg.RDTR, rdtr), (reg.RADV, radv)):
            write(lines, register, value)
        if cause:
            write(lines, reg.ICS, cause)
        else:
            write(lines, reg.TDH, 0)
            descriptor(lines, 0, DATA, tx.EOP | tx.RS | flags | 60)
            write(lines, reg.TDT, 1)
        _line(lines)
        read(lines, reg.ICR)
        _line(lines)
        write(lines, reg.ICS, 0x01)
        lines.wait(3)
        _line(lines)
        lines.wait(_AFTER_ITR)
        _line(lines)
        read(lines, reg.ICR)
        lines.wait(_AFTER_ITR)
    write(lines, reg.ICS, 1)
    read(lines, reg.ICR)
    write(lines, reg.ICS, 1)
    read(lines, reg.ICR)  # gone before the throttle's end
    lines.wait(_AFTER_ITR)
    _line(lines)
    lines.config_write(SLOT, 0x04, 0x407, 2)
    write(lines, reg.ICS, 1)
    lines.wait(_AFTER_ITR)
    lines.config_read(SLOT, 0x04)
    lines.frames()


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
    Script("e1000-registers", DEVICE, _registers),
    Script("e1000-differences", ON_WIRE, _differences, network=True),
    Script("e1000-eeprom-phy", DEVICE, _eeprom_and_phy),
    Script("e1000-transmit", ON_WIRE, _transmit, network=True),
    Script("e1000-segmentation", ON_WIRE, _segmentation, network=True),
    Script("e1000-receive", ON_WIRE, _receive, network=True),
    Script("e1000-filters", ON_WIRE, _filters, network=True),
    Script("e1000-loopback", ON_WIRE, _loopback, network=True),
    Script("e1000-interrupts", ON_WIRE, _interrupts, network=True),
)
