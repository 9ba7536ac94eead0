"""Ways to write scripts about the e1000: its registers, rings and frames.

A script that receives lets a second pass after each write of RCTL: the card's hold-off.
"""

from __future__ import annotations

import random
import struct

from conformance_script import Lines

from coalesced.devices.e1000 import phy
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
    """Bytes for the guest's memory: random, with a stretch of zeros."""
    data = bytearray(rng.randbytes(DATA_SIZE))
    data[0x8000:0xA000] = bytes(0x2000)
    return bytes(data)


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
        """Read the registers, descriptors and buffers of what was received."""
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


def mdic(lines: Lines, command: int, register: int, value: int = 0, address: int = 1) -> None:
    """Ask a register of the PHY."""
    select = address << phy.MDIC_PHY_SHIFT | register << phy.MDIC_REGISTER_SHIFT
    write(lines, reg.MDIC, command | select | value)
    read(lines, reg.MDIC)
