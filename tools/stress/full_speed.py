"""Guest against VMM at full speed, with or without SIGSTOP in between."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable

from coalesced.tools.stress.pair import PATIENCE, Pair
from coalesced.tools.stress.setups import Setup
from coalesced.tools.stress.totals import Totals

_SIDES = ("hv", "vmm")
_LONGEST_STOP = 0.02  # seconds
_TURNS = 15  # of PATIENCE, for a pair that moves


def run(setup: Setup, seconds: float, stops: random.Random | None, totals: Totals) -> None:
    """Run a pair until it is done, at most `seconds`; `stops`: chooses when to stop a side.

    After Ctrl-C the pair still ends and is counted before KeyboardInterrupt is raised.
    """
    pair = Pair(setup)
    try:
        if not pair.starts():
            totals.fail(pair, _with_text(pair, "it does not start"))
            return
        disturb = stopper(pair, stops, totals) if stops else None
        interrupt: KeyboardInterrupt | None = None
        try:
            ended = _watch(pair, seconds, disturb)
        except KeyboardInterrupt as error:
            interrupt, ended = error, False
            for side in _SIDES:
                pair.signal(side, signal.SIGCONT)
        if not ended:
            pair.stop()
            ended = ends(pair)
        totals.take(pair)
        _check(pair, ended, totals)
        if interrupt is not None:
            raise interrupt
    finally:
        pair.close()


def stopper(pair: Pair, chance: random.Random, totals: Totals) -> Callable[[], None]:
    """A function that stops a side, or both, for some milliseconds, after a random delay."""

    def stop() -> None:
        time.sleep(chance.random() ** 2 * _LONGEST_STOP)
        sides = chance.choice((_SIDES[:1], _SIDES[1:], _SIDES))
        for side in sides:
            pair.signal(side, signal.SIGSTOP)
        time.sleep(chance.random() ** 2 * _LONGEST_STOP)
        for side in sides:
            pair.signal(side, signal.SIGCONT)
        totals.stops += 1

    return stop


def _watch(pair: Pair, seconds: float, disturb: Callable[[], None] | None) -> bool:
    """Wait for the last message, at most `seconds`; False when it did not come."""
    if disturb is None:
        return pair.wait("last", seconds)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        disturb()
        if pair.wait("last", 0.0001):
            return True
    return False


def ends(pair: Pair) -> bool:
    """Wait for a pair to end after `stop`; False if no index or exit changes for PATIENCE.

    The guest finishes its burst first: thousands of exits, each of which waits for a turn of the
    scheduler on a busy machine.
    """
    assert pair.segments is not None
    for _ in range(_TURNS):
        before = pair.segments.moves()
        if pair.wait("last", PATIENCE):
            return True
        if pair.ended("vmm") or pair.segments.moves() == before:
            break
    return False


def _check(pair: Pair, ended: bool, totals: Totals) -> None:
    """Check how the pair ended, and its indices."""
    if not ended:
        gone = pair.ended("vmm")
        stuck = f"it does not end, though told to more than {PATIENCE:.0f} s ago"
        totals.fail(pair, "the VMM is gone" if gone else stuck)
    elif pair.last.get("kind") != "done":
        totals.fail(pair, _with_text(pair, "it ended"))
    else:
        if wrong := pair.wrong_indices():
            totals.fail(pair, wrong)
        for failure in pair.last["failures"]:
            totals.fail(pair, failure)


def _with_text(pair: Pair, text: str) -> str:
    said = pair.last.get("text")
    return f"{text}: {pair.last.get('type')}: {said}" if said else text
