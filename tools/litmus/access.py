"""Accesses to shared memory, and the programs of the threads that make them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

ANY = -1  # any value: nothing depends on the load

Place = int  # index into Program.places
Position = TypeVar("Position")  # a thread's place in its program, and its private variables


class Access(NamedTuple):
    """A load or a store of one word. Its place and, of a store, its value are known beforehand.

    A thread can branch on a loaded value. It then continues with each value that the load may
    find, one Access each: an access with `values` takes place only if it finds one of these.
    Until then the thread runs on a guess.
    """

    step: str  # the id in tools.litmus.steps
    kind: str  # "load" or "store"
    place: Place
    text: str  # such as "entry 2, data"
    where: str = ""  # "into slot 1"
    value: int = 0  # of a store
    values: int = ANY  # of a load that is branched upon: a bit per value that leads here
    legal: int | None = None  # of a load: the value that a correct execution finds
    wrong: str = ""  # the error when it finds another
    order: str = "relaxed"  # "acquire", "release" or "relaxed"
    control: bool = False  # whether a branch depends on the value, guess or not
    address_from: Place | None = None  # the place whose load gave this access its address
    call: bool = False  # a system call: never done on a guess, and nothing after it before it

    @property
    def guess(self) -> bool:
        """Whether later accesses may have run on the guess that this load finds one of `values`."""
        return self.values != ANY


FENCE = Access("", "fence", 0, "")
Choice = tuple[Access | None, Position]  # an access, or none, and the position after it


class Thread(Protocol[Position]):
    """A thread's program."""

    side: str
    start: Position

    def ahead(self, position: Position) -> Sequence[Choice[Position]]:
        """The choices at a position; none at the program's end."""


class Script:
    """A thread that does one access after the other."""

    def __init__(self, side: str, accesses: Sequence[Access]) -> None:
        self.side = side
        self.start = 0
        self._accesses = accesses

    def ahead(self, position: int) -> Sequence[Choice[int]]:
        """The next access, if there is one."""
        at = position
        return ((self._accesses[at], at + 1),) if at < len(self._accesses) else ()


class Program(NamedTuple):
    """Two threads and the memory between them."""

    places: tuple[str, ...]
    memory: tuple[int, ...]  # the initial value of each place, 0 to 15
    threads: tuple[Thread[Any], Thread[Any]]
    stuck: str  # the error when neither can go on
    shown: tuple[str, ...] = ()  # format of a place's value; default: the number

    def name(self, place: Place, value: int) -> str:
        """The text for a value of a place."""
        form = self.shown[place] if place < len(self.shown) else ""
        if not form:
            return str(value)
        return form.format(value) if value else "nothing yet"


def only(*values: int) -> int:
    """Access.values for these values."""
    return sum(1 << value for value in set(values))
