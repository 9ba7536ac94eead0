"""The guests of the lessons: each does one thing, again and again, so that it can be watched."""

from __future__ import annotations

from typing import Final

from coalesced.hv.vcpu import Vcpu
from coalesced.tools.guests.mode12h import HEIGHT, STRIDE, WINDOW, map_mask, set_mode
from coalesced.tools.guests.vga import PALETTE

_PAUSE: Final = 0.5  # seconds
_FRAME: Final = bytes(12) + b"\x08\x00" + b"coalesced".ljust(46, b"\0")


def writes(vcpu: Vcpu, reads_after: int = 0, pause_after: int = 0) -> None:
    """Fill the screen with stripes; each is a line of 80 stores.

    After `reads_after` stores comes a load, after `pause_after` lines half a second of nothing;
    0: never.
    """
    set_mode(vcpu, PALETTE)
    count = 0
    for line in range(HEIGHT):
        colour = line // 8 % 15 + 1
        if line % 8 == 0:
            map_mask(vcpu, colour)
        for column in range(STRIDE):
            vcpu.store8(WINDOW + line * STRIDE + column, 0xFF)
            count += 1
            if reads_after and count % reads_after == 0:
                vcpu.load8(WINDOW + line * STRIDE + column)
        if pause_after and line % pause_after == pause_after - 1:
            vcpu.wait_interrupt(0, _PAUSE)


def doorbell(vcpu: Vcpu, frames: int = 100) -> None:
    """Send frames one by one; each time wait in RAM, where no access exits, until it is sent."""
    from coalesced.tools.guests.network.blocks import of_rows  # noqa: PLC0415 - no other lesson's
    from coalesced.tools.guests.network.card import Card  # noqa: PLC0415

    card = Card(vcpu)
    for _ in range(frames):
        card.send(of_rows([_FRAME]))
        while card.transmitter.in_use:
            vcpu.wait_interrupt(0, 0.001)
            card.transmitter.clean()
