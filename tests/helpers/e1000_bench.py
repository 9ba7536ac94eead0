"""An e1000 on a bus of its own: RAM, a clock that a test moves, and a wire that a test looks at."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from coalesced.devices.bus.address_space import AddressSpace
from coalesced.devices.bus.pci import BASE_ADDRESS_0, COMMAND, STATUS, STATUS_INTERRUPT
from coalesced.devices.e1000 import E1000
from coalesced.devices.e1000 import offload as sums
from coalesced.devices.e1000 import registers as reg
from coalesced.devices.e1000 import transmit as tx
from coalesced.vmm.accel.direct import LocalMemory
from coalesced.vmm.clock import Clock
from coalesced.vmm.dma import MemoryMaster
from coalesced.vmm.loop import Loop
from helpers.pci_bus import pci_bus

BAR = 0xE000_0000
RAM_SIZE = 1 << 20
SEND_RING = 0x1000
RECEIVE_RING = 0x3000
DATA = 0x10000
BUFFERS = 0x40000
BUFFER_STEP = 0x800
MAC = reg.RECEIVE_ADDRESS

SIMPLE = tx.EOP | tx.RS
DATA_DESCRIPTOR = tx.DEXT | tx.DTYP_DATA


class FakeWire:
    """Keeps what is sent; `room`: how many frames it still takes, None for all."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.batches: list[int] = []
        self.room: int | None = None
        self.asked = 0
        self.on_send: Callable[[], object] = lambda: None

    def send(self, frames: Sequence[bytes]) -> int:
        taken = len(frames) if self.room is None else min(len(frames), self.room)
        if self.room is not None:
            self.room -= taken
        self.sent += [bytes(frame) for frame in frames[:taken]]
        self.batches.append(len(frames))
        self.on_send()
        return taken

    def receive_ready(self, timer: bool = False) -> None:
        self.asked += 1

    def take(self) -> list[bytes]:
        """The frames sent since the last call."""
        sent, self.sent = self.sent, []
        return sent


class Memory(LocalMemory):
    """RAM that writes down where it was written."""

    def __init__(self, size: int) -> None:
        super().__init__(0, size)
        self.written: list[tuple[int, int]] = []  # (address, size), in order

    def write(self, offset: int, data: bytes) -> None:
        self.written.append((offset, len(data)))
        super().write(offset, data)


class PlainMaster(MemoryMaster):
    """Has no RAM for the fast paths of a device."""

    def ram_at(self, address: int) -> None:
        return None


class Bench:
    """The card in slot 3, mapped at BAR, a bus master; its clock stands still."""

    def __init__(self, plain: bool = False) -> None:
        """`plain`: let the card take no fast path."""
        self.space = AddressSpace("memory", 1 << 64, 0x00)
        self.ram = Memory(RAM_SIZE)
        self.card = E1000()
        self.wire = FakeWire()
        self.card.connect(self.wire)
        bus = pci_bus(self.space, AddressSpace("ports", 1 << 16, 0xFF))
        self.dma = bus.dma = (PlainMaster if plain else MemoryMaster)([self.ram], self.space)
        self.clock = bus.clock = Clock(Loop())
        self.clock.set(0)
        bus.add(self.card, 3)
        self.card.config_write(BASE_ADDRESS_0, 4, BAR)
        self.card.config_write(COMMAND, 2, 7)
        self.wire.asked = 0

    def write(self, register: int, value: int, size: int = 4) -> None:
        """As the guest does."""
        self.space.write(BAR + register, size, value)

    def read(self, register: int, size: int = 4) -> int:
        """As the guest does."""
        return self.space.read(BAR + register, size)

    @property
    def interrupt(self) -> bool:
        """True while the pin is raised."""
        return bool(self.card.config[STATUS] & STATUS_INTERRUPT)

    # --- transmit ---

    def send_ring(self, count: int = 8, head: int = 0) -> None:
        """A ring of `count` descriptors, empty, with the transmitter on."""
        for register, value in (
            (reg.TDBAL, SEND_RING),
            (reg.TDLEN, 16 * count),
            (reg.TDH, head),
            (reg.TDT, head),
            (reg.TCTL, reg.TCTL_EN),
        ):
            self.write(register, value)
        self.read(reg.ICR)

    def descriptor(self, index: int, address: int, lower: int, upper: int = 0) -> None:
        """Fill a descriptor of the transmit ring."""
        self.ram.write(SEND_RING + 16 * index, struct.pack("<QII", address, lower, upper))

    def status(self, index: int) -> int:
        """The last word of a transmit descriptor."""
        return int.from_bytes(self.ram.read(SEND_RING + 16 * index + 12, 4), "little")

    # --- receive ---

    def receive_ring(self, count: int = 8, tail: int | None = None, rctl: int = 0) -> None:
        """A ring of buffers of BUFFER_STEP bytes, all but one given; the receiver is on."""
        for index in range(count):
            address = BUFFERS + BUFFER_STEP * index
            self.ram.write(RECEIVE_RING + 16 * index, struct.pack("<QQ", address, 0))
        for register, value in (
            (reg.RDBAL, RECEIVE_RING),
            (reg.RDLEN, 16 * count),
            (reg.RDH, 0),
            (reg.RDT, count - 1 if tail is None else tail),
            (reg.RCTL, rctl | reg.RCTL_EN),
        ):
            self.write(register, value)
        self.clock.step(1_000_000_000)
        self.wire.asked = 0

    def received(self, index: int) -> tuple[int, int, bytes]:
        """Status and length of a receive descriptor, and what lies in its buffer."""
        address, length, _, status, _, _ = struct.unpack(
            "<QHHBBH", self.ram.read(RECEIVE_RING + 16 * index, 16)
        )
        return status, length, self.ram.read(address, max(length - 4, 0))


def frame_of(length: int, target: bytes = MAC) -> bytes:
    """A frame for somebody, of `length` bytes."""
    return (target + bytes(at & 0xFF for at in range(length)))[:length]


def context(bench: Bench, index: int, header: int, mss: int, payload: int = 0xFFFFF) -> None:
    """A context for TCP over IPv4."""
    half = int.from_bytes(struct.pack("<BBHBBH", 14, 24, 33, 34, 50, 0), "little")
    command = tx.DEXT | sums.TSE | sums.IP | sums.TCP | payload
    bench.descriptor(index, half, command, header << 8 | mss << 16)
