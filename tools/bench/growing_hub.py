"""Network cards on a hub: the cost of a frame to all of them as their number grows."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import Final

from coalesced.devices.bus.pci import BASE_ADDRESS_0, COMMAND, COMMAND_MASTER, COMMAND_MEMORY
from coalesced.devices.bus.pci_bus import PciBus
from coalesced.devices.e1000 import registers as reg
from coalesced.devices.e1000.card import E1000
from coalesced.tools.bench.growing import Sizes, Subjects
from coalesced.tools.bench.parked import Parked
from coalesced.tools.guests import bench as guest
from coalesced.tools.guests.network.rings import (
    RING_SIZE,
    RX_DESCRIPTOR,
    SLOTS,
    TX_DESCRIPTOR,
    TXD_EOP,
    TXD_IFCS,
    TXD_RS,
)
from coalesced.vmm.clock import Clock

FRAME, SHARE = "frame_ns", "share_ns"
LENGTH: Final = 1470  # bytes of a frame, as `bench e1000` sends
_BUFFER: Final = 2048  # one for all frames, at the beginning of RAM
_RINGS: Final = 0x1000  # of the first card to send, then of each to receive
_TURN: Final = guest.HUB_BURST * guest.HUB_TURNS


def of_hub(cards: int, sizes: Sizes, stack: ExitStack) -> Subjects:
    """The costs of a frame that one card sends to the others; `stack` ends the VM."""
    hub = stack.enter_context(closing(Hub(cards)))
    turns = max(sizes.frames // cards // _TURN, 1)
    return {FRAME: lambda: hub.measure(turns), SHARE: lambda: hub.measure(turns) / cards}


class Hub(Parked):
    """A VM with cards on one hub. The first one sends; the others receive and get buffers back.

    The registers of all are set here: a driver's start would take a second for each card.
    """

    def __init__(self, cards: int) -> None:
        """`cards`: 1 to 32."""
        super().__init__()
        machine = self.machine
        with self.building("coalesced.tools.guests.bench:hub", {"cards": cards}):
            machine.add_ram(0, _RINGS + cards * RING_SIZE)
            self.add_control()
            clock = Clock(machine.loop)
            bus = PciBus(machine.memory, machine.ports, lambda _i, _l: None, machine.dma, clock)
            self.cards = [self._card(bus, number) for number in range(cards)]

    def _card(self, bus: PciBus, number: int) -> E1000:
        """One more card, ready to send or to receive."""
        card = E1000(bytes((0x52, 0x54, 0, 0, 0, number)))
        machine = self.machine
        machine.claim(card)
        bus.add(card, number)
        machine.add_device(card)
        machine.network.add(f"hubport,id=p{number},hubid=0")
        wire = machine.network.take(f"p{number}", "card")
        card.connect(wire)
        wire.connect(card)
        card.config_write(BASE_ADDRESS_0, 4, guest.HUB_CARDS + number * reg.MMIO_SIZE)
        card.config_write(COMMAND, 2, COMMAND_MEMORY | COMMAND_MASTER)
        if number:
            self._receive(card, _RINGS + number * RING_SIZE)
        else:
            self._send(card, _RINGS)
        return card

    def _send(self, card: E1000, ring: int) -> None:
        frame = b"\xff" * 6 + card.mac + bytes(LENGTH - 12)
        descriptor = bytearray(TX_DESCRIPTOR.itemsize)
        descriptor[8:10] = LENGTH.to_bytes(2, "little")
        descriptor[11] = TXD_EOP | TXD_IFCS | TXD_RS
        self.machine.dma.write(0, frame)
        self.machine.dma.write(ring, bytes(descriptor) * SLOTS)
        registers = card.registers
        registers[reg.TDBAL], registers[reg.TDLEN] = ring, RING_SIZE
        registers[reg.TCTL] = reg.TCTL_EN

    def _receive(self, card: E1000, ring: int) -> None:
        descriptor = _BUFFER.to_bytes(8, "little") + bytes(RX_DESCRIPTOR.itemsize - 8)
        self.machine.dma.write(ring, descriptor * SLOTS)
        registers = card.registers
        registers[reg.RDBAL], registers[reg.RDLEN] = ring, RING_SIZE
        registers[reg.RDT] = SLOTS - 1
        registers[reg.RCTL] = reg.RCTL_EN | reg.RCTL_BAM

    def measure(self, turns: int) -> float:
        """Nanoseconds per frame; in a turn the first card sends its whole ring."""
        self.command = turns
        return self.resume() / (turns * _TURN)
