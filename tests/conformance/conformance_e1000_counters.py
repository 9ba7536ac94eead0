"""Scripts about the e1000's counters in mixed traffic, and about frames that wait for it."""

from __future__ import annotations

from conformance_e1000 import (
    BROADCAST,
    DATA,
    HOLD_OFF,
    MAC,
    MULTICAST,
    ON_WIRE,
    SLOT,
    Receiving,
    data_of,
    descriptor,
    frame_of,
    map_bars,
    read,
    send_setup,
    sent,
    statistics,
    write,
)
from conformance_script import Lines, Script, seeded

from coalesced.devices.e1000 import registers as reg
from coalesced.devices.e1000 import transmit as tx


def _both_ways(lines: Lines) -> None:
    """Counters of good frames and of all, some of them read and so cleared in between."""
    rng = seeded("e1000 both ways")
    map_bars(lines)
    data = bytearray(data_of(rng))
    for at, target in ((0, MAC), (0x1000, BROADCAST), (0x2000, MULTICAST)):
        data[at : at + 6] = target
    lines.write(DATA, bytes(data))
    send_setup(lines, 8)
    ring = Receiving(lines)
    ring.turn_on(reg.RCTL_UPE | reg.RCTL_BAM | reg.RCTL_MPE)
    position = 0
    # Each length follows a longer frame, whose first bytes a shorter one leaves in the buffer.
    for length in (60, 5, 3, 1514, 1, 4, 60, 2, 100):
        for start in (0x1000, 0, 0x2000):
            descriptor(lines, position, DATA + start, tx.EOP | tx.RS | length)
            position = (position + 1) % 8
            write(lines, reg.TDT, position)
            lines.frames()
        ring.give(7)
        ring.frames(frame_of(rng.choice((14, 60, 100, 1514)), rng.choice((MAC, BROADCAST))))
        for register in rng.sample((reg.TPT, reg.TOTH, reg.TPR, reg.TORH, reg.GPTC, reg.GORCH), 2):
            read(lines, register)
    statistics(lines)
    statistics(lines)


def _waiting(lines: Lines) -> None:
    """QEMU hands the first waiting frame over when a hold-off ends, and when the card becomes a bus
    master, whether or not there is room for it."""
    map_bars(lines)
    ring = Receiving(lines)
    ring.turn_on(reg.RCTL_BAM)

    def wait_and_look() -> None:
        lines.wait(HOLD_OFF)
        for register in (reg.RDH, reg.ICR, reg.RNBC, reg.MPC, reg.ROC, reg.TPR):
            read(lines, register)

    write(lines, reg.RCTL, reg.RCTL_EN | reg.RCTL_BAM)
    ring.frames(frame_of(100))
    wait_and_look()  # no descriptor: an overrun
    ring.give(4)
    wait_and_look()  # it is gone
    write(lines, reg.RCTL, reg.RCTL_BAM)
    ring.frames(frame_of(101), frame_of(102), frame_of(103))
    wait_and_look()  # the receiver is off: lost, and counted nowhere
    write(lines, reg.RDT, 5)
    lines.wait(5)
    write(lines, reg.RCTL, reg.RCTL_EN | reg.RCTL_BAM)
    wait_and_look()  # what is left
    ring.give(0)
    ring.frames(frame_of(1600), frame_of(104), frame_of(105))
    for command in (3, 7, 7):
        lines.config_write(SLOT, 0x04, command, 2)
        lines.wait(5)
        for register in (reg.RDH, reg.ICR, reg.RNBC, reg.MPC, reg.ROC, reg.TPR):
            read(lines, register)
    ring.give(7)
    lines.wait(5)
    ring.look()
    lines.config_write(SLOT, 0x04, 3, 2)
    ring.frames(frame_of(106))
    write(lines, reg.RDT, 6)  # not a bus master: it goes around the ring and reaches no memory
    lines.wait(5)
    ring.look()
    sent(lines, 1)
    statistics(lines)


SCRIPTS = (
    Script("e1000-both-ways", ON_WIRE, _both_ways, network=True),
    Script("e1000-waiting", ON_WIRE, _waiting, network=True),
)
