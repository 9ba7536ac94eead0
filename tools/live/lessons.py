"""The seven lessons: presets of the page, each a guest with options. docs/lesson has the texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from coalesced.devices.e1000.registers import TDT
from coalesced.tools.errors import BadInput
from coalesced.tools.runs.boards import DEFAULT_DEVICE
from coalesced.tools.runs.options import RunOptions
from coalesced.vmm.zone import AS_DECLARED, Choice, Zone

PREFIX: Final = "lesson:"
DOORBELL: Final = Zone(pio=False, address=0xFEBE_0000 + TDT, size=4)
"""The transmit tail where the guest of the lesson puts the card."""


@dataclass(frozen=True)
class Lesson:
    """A guest, what its page says, and the options that differ from those of other guests."""

    title: str
    task: str
    function: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    specs: Sequence[str] = (DEFAULT_DEVICE,)
    zones: Choice = AS_DECLARED
    rate: int = 100  # accesses a second, with --run

    def options(self, given: RunOptions) -> RunOptions:
        """The options with those of the lesson."""
        return replace(given, zones=self.zones, coalesce=True)


_WRITES: Final = "coalesced.tools.guests.lessons:writes"

LESSONS: Final = (
    Lesson(
        "every write exits",
        "Nothing is queued. Step: each store stops the guest until the VMM has answered.",
        _WRITES,
        zones=Choice(declared=False),
    ),
    Lesson(
        "a ring takes the writes",
        "Stores to the screen are queued now. Step, and watch last move; then look at the exits.",
        _WRITES,
    ),
    Lesson(
        "the ring is full",
        "This guest only writes. Every 170th write finds no room. Then start again with 16 pages.",
        _WRITES,
        rate=1000,
    ),
    Lesson(
        "a load drains the ring",
        "A load comes after every 20 writes, and needs their effect: first catches up with last.",
        _WRITES,
        {"reads_after": 20},
    ),
    Lesson(
        "nobody looks",
        "The guest pauses after each line, with writes in the ring. Which knob shows them sooner?",
        _WRITES,
        {"pause_after": 1},
    ),
    Lesson(
        "a write that must not wait",
        "The card's doorbell is queued, and the guest waits for the card in RAM, without an exit. "
        "Drain now, then drain every 10 ms.",
        "coalesced.tools.guests.lessons:doorbell",
        specs=(DEFAULT_DEVICE, "e1000,addr=03.0"),
        zones=Choice(added=(DOORBELL,)),
        rate=1000,
    ),
    Lesson(
        "the order of two stores",
        "The guest writes an entry, then last. The VMM reads last, then must find the entry: that "
        "takes two barriers. Take one out.",
        _WRITES,
    ),
)


def numbered(text: str) -> Lesson:
    """The lesson of a number from 1 on. Raises BadInput."""
    if not text.isdecimal() or not 1 <= int(text) <= len(LESSONS):
        raise BadInput(f"{PREFIX}{text}: expected {PREFIX}1 to {PREFIX}{len(LESSONS)}")
    return LESSONS[int(text) - 1]
