"""One access of a thread to shared memory, as the explorer sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

ANY = -1  # a load that takes whatever it finds

Place = int  # index into Program.places
Position = tuple[object, ...]  # where a thread stands in its program: all that it knows itself


class Access(NamedTuple):
    """A load or a store of one word. Its place and, of a store, its value are known beforehand.

    What a thread does next can depend on what it loads. The thread then runs on with each value
    that it might find, one Access each: one with `values` set takes place only if it finds one of
    these. Until it does, the thread runs on a guess.
    """

    step: str  # the id in tools.litmus.steps
    kind: str  # "load" or "store"
    place: Place
    text: str  # what it is about: "entry 2, data"
    where: str = ""  # "into slot 1"
    value: int = 0  # of a store
    values: int = ANY  # of a load that is branched upon: a bit per value that leads here
    legal: int | None = None  # of a load: the one value that a right execution finds
    wrong: str = ""  # what another value means
    order: str = "relaxed"  # "acquire", "release" or "relaxed"
    control: bool = False  # whether a branch depends on the value, guess or not
    address_from: Place | None = None  # the place whose load gave this access its address
    call: bool = False  # a system call: never done on a guess, and nothing after it before it

    @property
    def guess(self) -> bool:
        """May something later have run on the guess that this load finds one of `values`?"""
        return self.values != ANY


FENCE = Access("", "fence", 0, "")
Choice = tuple[Access | None, Position]  # None: a choice without an access


class Thread(Protocol):
    """A thread's program."""

    side: str
    start: Position

    def ahead(self, position: Position) -> Sequence[Choice]:
        """What can come next, each with the position after it; nothing at the program's end."""


class Script:
    """A thread that does one access after the other."""

    def __init__(self, side: str, accesses: Sequence[Access]) -> None:
        self.side = side
        self.start: Position = (0,)
        self._accesses = accesses

    def ahead(self, position: Position) -> Sequence[Choice]:
        """The next access, if there is one."""
        (at,) = position
        assert isinstance(at, int)
        return ((self._accesses[at], (at + 1,)),) if at < len(self._accesses) else ()


class Program(NamedTuple):
    """Two threads and the memory between them."""

    places: tuple[str, ...]
    memory: tuple[int, ...]  # the initial value of each place, 0 to 15
    threads: tuple[Thread, Thread]
    stuck: str  # what it means that neither can go on
    shown: tuple[str, ...] = ()  # how a place's value is named; where nothing stands, as a number

    def name(self, place: Place, value: int) -> str:
        """A value as people read it."""
        form = self.shown[place] if place < len(self.shown) else ""
        if not form:
            return str(value)
        return form.format(value) if value else "nothing yet"


def only(*values: int) -> int:
    """Access.values for these values."""
    return sum(1 << value for value in set(values))
