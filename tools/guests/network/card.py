"""A driver of the 82540EM, with the register accesses of Linux's e1000.

Registers, descriptors and bits: Intel's 8254x software developer's manual, sections 3 and 13.
"""

from __future__ import annotations

import time
from typing import Final

from coalesced.devices.e1000.registers import (
    CTRL,
    EERD,
    EERD_ADDRESS_SHIFT,
    EERD_DATA_SHIFT,
    EERD_DONE,
    EERD_START,
    ICR,
    IMC,
    IMS,
    INT_LSC,
    INT_RXDMT0,
    INT_RXT0,
    INT_TXDW,
    ITR,
    MTA,
    MTA_COUNT,
    RA,
    RAH_AV,
    RCTL,
    RCTL_BAM,
    RCTL_EN,
    RCTL_SECRC,
    RDBAH,
    RDBAL,
    RDH,
    RDLEN,
    RDT,
    STATUS,
    TCTL,
    TCTL_EN,
    TDBAH,
    TDBAL,
    TDH,
    TDLEN,
    TDT,
    VFTA,
    VFTA_COUNT,
)
from coalesced.hv.vcpu import Vcpu
from coalesced.tools.guests.network import memory, pci
from coalesced.tools.guests.network.blocks import Frames
from coalesced.tools.guests.network.moderation import Moderation
from coalesced.tools.guests.network.rings import RING_SIZE, SLOTS, Receiver, Transmitter

VENDOR: Final = 0x8086
DEVICE: Final = 0x100E
REGISTERS_END: Final = 0xFEC0_0000  # QEMU's firmware places BARs below the I/O APIC, too

BUDGET: Final = 64  # frames of one `service`: Linux's weight of a poll

_ALL_CAUSES: Final = 0xFFFF_FFFF
_INT_RXSEQ: Final = 1 << 3
_WANTED: Final = INT_TXDW | INT_LSC | _INT_RXSEQ | INT_RXDMT0 | INT_RXT0  # what Linux enables
_CTRL_SLU: Final = 1 << 6  # set link up
# Pad short packets; collision threshold 16, distance 64 bytes: the manual's full-duplex values.
_TCTL: Final = TCTL_EN | 1 << 3 | 0x10 << 4 | 0x40 << 12
_RCTL: Final = RCTL_EN | RCTL_BAM | RCTL_SECRC  # buffers of 2048 bytes, lengths without the FCS
_EEPROM_SECONDS: Final = 1.0


class Card:
    """The 82540EM of this machine, started: both rings run, interrupts are on.

    `transmitter` and `receiver` show the state of the rings; frames go out with `send` and come
    in with `service`.
    """

    def __init__(self, vcpu: Vcpu) -> None:
        """Find the card, place its registers, start it. Raises LookupError without one."""
        slot = pci.find(vcpu, VENDOR, DEVICE)
        self._vcpu = vcpu
        self._registers = slot.place(0, REGISTERS_END)
        slot.enable()
        self._lines = 1 << slot.wire_interrupt()
        self._moderation = Moderation()
        self._polling = False
        self.interrupts = 0
        self._write(IMC, _ALL_CAUSES)
        self._read(ICR)
        self.mac = self._read_mac()
        self.transmitter = Transmitter(vcpu, memory.TX_RING, memory.TX_BUFFERS)
        self.receiver = Receiver(vcpu, memory.RX_RING, memory.RX_BUFFERS)
        self._set_up_filters()
        self._start_transmitter()
        self._start_receiver()
        self._write(ITR, self._moderation.interval)
        self._write(IMS, _WANTED)
        self._read(STATUS)

    # --- frames ---

    def send(self, frames: Frames, each: int | None = None) -> None:
        """Queue frames and show them to the card, `each` at a time, by default all at once.

        `each` 1 is what Linux does for frames that come one by one. There must be room for them.
        """
        count = self.transmitter.fill(frames)
        while count > 0:
            step = count if each is None else min(each, count)
            self.show(step)
            count -= step

    def show(self, count: int) -> None:
        """Move the tail over `count` filled descriptors."""
        self._write(TDT, self.transmitter.advance(count))

    def raised(self) -> bool:
        """True when there is something to `service`."""
        return self._polling or self._vcpu.wait_interrupt(self._lines, 0) != 0

    def wait(self, timeout: float | None) -> bool:
        """Halt until there is something to `service`; False when `timeout` seconds passed first."""
        return self._polling or self._vcpu.wait_interrupt(self._lines, timeout) != 0

    def pause(self, seconds: float) -> None:
        """Halt for a while, whether or not the card interrupts."""
        self._vcpu.wait_interrupt(0, seconds)

    def service(self) -> list[Frames]:
        """Serve an interrupt as Linux's driver does; the received frames, in order.

        While frames come faster than they are taken, interrupts stay off from one call to the next.
        """
        read, write, base = self._vcpu.load32, self._vcpu.store32, self._registers
        if not self._polling:
            if not read(base + ICR):
                return []
            self.interrupts += 1
            write(base + IMC, _ALL_CAUSES)
            read(base + STATUS)  # posted writes are through
        sent = self.transmitter.clean()
        packets, octets = 0, self.receiver.octets
        received = self.receiver.take(BUDGET)
        for frames in received:
            count = len(frames.lengths)
            packets += count
            for tail in self.receiver.refill(count):
                write(base + RDT, tail)
        self._polling = packets == BUDGET
        if not self._polling:
            if self._moderation.update(*sent, packets, self.receiver.octets - octets):
                write(base + ITR, self._moderation.interval)
            write(base + IMS, _WANTED)
            read(base + STATUS)
        return received

    # --- start ---

    def _read(self, register: int) -> int:
        return self._vcpu.load32(self._registers + register)

    def _write(self, register: int, value: int) -> None:
        self._vcpu.store32(self._registers + register, value)

    def _read_mac(self) -> bytes:
        """Words 0 to 2 of the EEPROM, section 5.6."""
        words = []
        for address in range(3):
            self._write(EERD, address << EERD_ADDRESS_SHIFT | EERD_START)
            deadline = time.monotonic() + _EEPROM_SECONDS
            while not (got := self._read(EERD)) & EERD_DONE:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the EEPROM did not return word {address}")
            words.append((got >> EERD_DATA_SHIFT).to_bytes(2, "little"))
        return b"".join(words)

    def _set_up_filters(self) -> None:
        """Frames to this card's address and broadcasts; no multicast, no VLAN."""
        self._write(RA, int.from_bytes(self.mac[:4], "little"))
        self._write(RA + 4, int.from_bytes(self.mac[4:], "little") | RAH_AV)
        for table, count in ((MTA, MTA_COUNT), (VFTA, VFTA_COUNT)):
            self._vcpu.fill(self._registers + table, count, 0, size=4)

    def _start_transmitter(self) -> None:
        """Section 14.5."""
        for register, value in (
            (TDBAL, self.transmitter.ring),
            (TDBAH, 0),
            (TDLEN, RING_SIZE),
            (TDH, 0),
            (TDT, 0),
            (TCTL, _TCTL),
        ):
            self._write(register, value)

    def _start_receiver(self) -> None:
        """Section 14.4. The card takes in nothing for a second after a write of RCTL."""
        for register, value in (
            (CTRL, self._read(CTRL) | _CTRL_SLU),
            (RDBAL, self.receiver.ring),
            (RDBAH, 0),
            (RDLEN, RING_SIZE),
            (RDH, 0),
            (RDT, SLOTS - 1),
            (RCTL, _RCTL),
        ):
            self._write(register, value)
