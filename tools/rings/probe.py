"""The first look at a user's ring, in a process of its own: its functions and their answers."""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from coalesced.tools.rings.drivers import FLOOR, OURS, CDriver, Driver, prepare
from coalesced.tools.rings.patience import HANG
from coalesced.tools.rings.sides import UNLOADABLE, Child, Memory, Ring
from coalesced.tools.rings.source import Source, load

SIZES = (1, 2, 15, 64, 1024, 16384)  # entries
SIZE_MOST = 1 << 28
ENTRY_LEAST = 8  # bytes of memory
_ROOM = 64  # entries of the ring under test, if it can hold them
CLAIMS = ("producer-death", "consumer-death", "hostile-indices", "no-lost-wakeup")


@dataclass(frozen=True)
class Offer:
    """A user's ring and its claims."""

    ring: Ring
    claims: frozenset[str]  # of CLAIMS: what is tested
    waits: bool
    points: dict[str, tuple[str, ...]]  # by side


def offer_of(text: str) -> Offer:
    """Load the ring of `--ring TEXT` and try each function once. Raises BadInput."""
    source = load(text)
    found = _probed(source)
    sizes = {int(entries): size for entries, size in found["sizes"].items()}
    claims = _claims(source, found["claims"], "wait" in found["offered"])
    points = {side: tuple(names) for side, names in found["points"].items()}
    ring = Ring(os.path.basename(text), sizes.__getitem__, source, most=max(sizes))
    if source.class_name:
        prepare(source)
    return Offer(ring, claims, "wait" in found["offered"], points)


def ours() -> Ring:
    """The product's ring, through the functions that a user's has."""
    return Ring("ours", CDriver(OURS, None).size, number=OURS)


def floor() -> Ring:
    """The product's ring inlined into the loops: what C reaches."""
    return Ring("C floor", CDriver(FLOOR, None).size, number=FLOOR)


def _claims(source: Source, text: str | None, waits: bool) -> frozenset[str]:
    if text is None:
        return frozenset({*CLAIMS} - {"hostile-indices"} - (set() if waits else {"no-lost-wakeup"}))
    claims = text.split()
    for claim in claims:
        if claim not in CLAIMS:
            raise source.wrong(f"claims {claim!r}: expected some of {', '.join(CLAIMS)}")
    if "no-lost-wakeup" in claims and not waits:
        raise source.wrong("it claims no-lost-wakeup and has no function ring_wait")
    return frozenset(claims)


def _probed(source: Source) -> dict[str, Any]:
    """The report of the probe's process. Raises BadInput."""
    said = mmap.mmap(-1, 1 << 16)
    child = Child(lambda: _probe(source, said))
    hung = not child.await_end()
    child.kill()
    text = bytes(said).rstrip(b"\0").decode(errors="replace")
    how, status = child.how(), child.status
    child.close()
    if hung:
        raise source.wrong(f"{text} did not return within {HANG:g} s")
    if status == UNLOADABLE:
        raise source.wrong(how.removeprefix("failed: "))
    if status:
        raise source.wrong(f"{text} {how}")
    if not text.startswith("{"):
        raise source.wrong(f"{text} ended its process")
    found: dict[str, Any] = json.loads(text)
    if "wrong" in found:
        raise source.wrong(str(found["wrong"]))
    return found


class _Wrong(Exception):
    pass


def _probe(source: Source, said: mmap.mmap) -> int:
    def say(text: str) -> None:
        said[:] = text.encode().ljust(len(said), b"\0")

    say("loading it")
    try:
        say(json.dumps(_report(source, say)))
    except _Wrong as error:
        say(json.dumps({"wrong": str(error)}))
    return 0


def _report(source: Source, say: Callable[[str], None]) -> dict[str, object]:
    driver = Ring("", lambda _: 0, source).driver()
    sizes = _sizes(driver, say)
    room = min(_ROOM, max(sizes))
    shared = Memory(sizes[room])
    memory = shared.bytes
    for name, argument in (("init", room), ("attach", 0), ("attach", 1)):
        say(name)
        answer = driver.call(name, memory, argument)
        if answer:
            raise _Wrong(f"{name} answered {answer}: expected 0")
    points = {}
    driver.points()
    for side, name in (("producer", "push"), ("consumer", "pop")):
        say(name)
        answer = driver.call(name, memory, 0)
        if answer != 1:
            raise _Wrong(f"the first {name} answered {answer}: expected 1")
        points[side] = driver.points()
    say("pop")
    if answer := driver.call("pop", memory, 0):
        raise _Wrong(f"pop of an empty ring answered {answer}: expected 0")
    _fill(driver, memory, room, say)
    if shared.overrun():
        raise _Wrong(f"it writes behind the {sizes[room]} bytes of size({room})")
    if "wait" in driver.offered:
        say("wait")
        if (answer := driver.call("wait", memory, 10)) not in (0, 1):
            raise _Wrong(f"wait answered {answer}: expected 0 or 1")
    return {"offered": driver.offered, "claims": driver.claims, "sizes": sizes, "points": points}


def _sizes(driver: Driver, say: Callable[[str], None]) -> dict[int, int]:
    """Bytes by entries, up to the most entries that the ring can hold."""
    sizes: dict[int, int] = {}
    for entries in SIZES:
        say(f"size({entries})")
        size = driver.size(entries)
        if sizes and not size:
            break
        least = entries * ENTRY_LEAST
        if not least <= size <= SIZE_MOST:
            raise _Wrong(f"size({entries}) is {size}: expected {least} to {SIZE_MOST} bytes")
        sizes[entries] = size
    return sizes


def _fill(driver: Driver, memory: memoryview, room: int, say: Callable[[str], None]) -> None:
    """The ring holds as many entries as it was asked for."""
    for name, wrong in (("push", "room for"), ("pop", "the oldest of")):
        say(name)
        for done in range(room):
            if (answer := driver.call(name, memory, 0)) != 1:
                raise _Wrong(
                    f"{name} answered {answer} after {done} entries: expected {wrong} {room} "
                    "(for more than it can hold, the size is 0)"
                )
