"""Scripts about what the e1000 receives: rings, filters, its own frames in loopback."""

from __future__ import annotations

import struct

from conformance_e1000 import (
    BAR,
    BROADCAST,
    BUFFER_STEP,
    BUFFERS,
    DATA,
    MAC,
    MULTICAST,
    ON_WIRE,
    OTHER,
    RECEIVE_RING,
    SEND_RING,
    SLOT,
    Receiving,
    data_of,
    descriptor,
    frame_of,
    map_bars,
    mdic,
    read,
    send_setup,
    sent,
    statistics,
    tagged,
    write,
)
from conformance_script import Lines, Script, seeded

from coalesced.devices.e1000 import phy
from coalesced.devices.e1000 import registers as reg
from coalesced.devices.e1000 import transmit as tx


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
    mdic(lines, phy.MDIC_WRITE, phy.BMCR, phy.BMCR_AUTOEN | phy.BMCR_ANRESTART)
    ring.frames(frame_of(100))
    mdic(lines, phy.MDIC_READ, phy.BMSR)
    read(lines, reg.STATUS)
    lines.wait(700)
    ring.look()
    mdic(lines, phy.MDIC_READ, phy.BMSR)
    mdic(lines, phy.MDIC_READ, phy.ANLPAR)
    read(lines, reg.STATUS)


def _loopback(lines: Lines) -> None:
    """Frames return from a loopback: whole, runt, long, with tags, onto the rings themselves."""
    rng = seeded("e1000 loopback")
    map_bars(lines)
    data = bytearray(data_of(rng))
    data[:6] = MAC
    lines.write(DATA, bytes(data))
    mdic(lines, phy.MDIC_WRITE, phy.BMCR, phy.BMCR_LOOPBACK | 0x0140)
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
    mdic(lines, phy.MDIC_WRITE, phy.BMCR, 0x1140)
    write(lines, reg.RCTL, reg.RCTL_EN | 3 << 6)  # RCTL.LBM, which does nothing
    descriptor(lines, 2, DATA, tx.EOP | tx.RS | 70)
    write(lines, reg.TDT, 3)
    sent(lines, 8)


SCRIPTS = (
    Script("e1000-receive", ON_WIRE, _receive, network=True),
    Script("e1000-filters", ON_WIRE, _filters, network=True),
    Script("e1000-loopback", ON_WIRE, _loopback, network=True),
)
