"""SIGKILL for either side, or both, and the accounting of what had been published."""

from __future__ import annotations

import random
import signal
import time
from dataclasses import dataclass
from types import ModuleType

from coalesced.tools.stress import guest
from coalesced.tools.stress.checker import Count
from coalesced.tools.stress.pair import PATIENCE, Pair
from coalesced.tools.stress.setups import Setup
from coalesced.tools.stress.totals import Totals

NOTICE = 1.0  # seconds within which the other side must report the death
# Places at which a side kills itself: between payload and `last`, between payload and exit
# sequence; between dispatch and `first`, between an exit's handling and the guest's resumption.
POINTS = {"hv": ("before_last", "before_exit"), "vmm": ("before_first", "before_resume")}
_START_UP = 0.05  # seconds
_LONGEST_RUN = 0.01
_MOST_PASSES = 3000
_PATIENCE_AT_POINT = 0.2


@dataclass(frozen=True)
class Kill:
    """The sides that are killed, and the instant."""

    sides: tuple[str, ...]
    at: str  # 'start': while the pair starts; 'run': while it runs; or an injection point
    delay: float  # seconds
    passes: int  # of the injection point before

    @classmethod
    def draw(cls, chance: random.Random, mode: str, points: bool) -> Kill:
        """mode: 'hv', 'vmm' or 'both', which is one of them, or both at a time."""
        victims: tuple[tuple[str, ...], ...] = {
            "hv": (("hv",),),
            "vmm": (("vmm",),),
            "both": (("hv",), ("vmm",), ("hv", "vmm"), ("vmm", "hv")),
        }[mode]
        sides = chance.choice(victims)
        at = chance.choices(("start", "run", "point"), (1, 4, 5 if points else 0))[0]
        longest = _START_UP if at == "start" else _LONGEST_RUN
        return cls(
            sides=sides,
            at=chance.choice(POINTS[sides[0]]) if at == "point" else at,
            delay=longest * chance.random() ** 3,
            passes=int(_MOST_PASSES ** chance.random()),
        )


def run(setup: Setup, kill: Kill, injected: ModuleType | None, totals: Totals) -> None:
    """Start a pair, kill, and check the outcome. `injected`: the core with injection points."""
    if injected is not None:
        injected.arm("nowhere" if kill.at in ("start", "run") else kill.at, kill.passes)
    pair = Pair(setup)
    if injected is not None:
        injected.arm("nowhere", 0)  # this pair has its point; the next one gets its own
    try:
        totals.kills += 1
        failed = totals.failed
        killed_at = _kill(pair, kill)
        noticed = _wait_for_notice(pair, kill.sides)
        taken = time.monotonic() - killed_at
        totals.slowest_notice_seconds = max(totals.slowest_notice_seconds, taken)
        if not noticed or taken > NOTICE:
            totals.fail(pair, f"{kill}: {taken:.3f} s, and the other side has not reported it")
        else:
            _account(pair, kill, totals)
        if totals.failed == failed:
            totals.recovered += 1
    finally:
        pair.close()


def _kill(pair: Pair, kill: Kill) -> float:
    """Kill, or wait for the kill at an injection point; its time."""
    if kill.at == "start":
        time.sleep(kill.delay)
    else:
        pair.starts()
        if kill.at == "run":
            time.sleep(kill.delay)
        else:  # where few pass the point, it is a kill like any other
            pair.ended(kill.sides[0], _PATIENCE_AT_POINT)
    if "hv" in kill.sides and pair.guest_pidfd < 0:
        pair.wait("guest")
    now = time.monotonic()
    for side in kill.sides:
        pair.signal(side, signal.SIGKILL)
    return now


def _wait_for_notice(pair: Pair, sides: tuple[str, ...]) -> bool:
    if sides == ("hv",):
        return pair.wait("last", NOTICE * 2)
    while pair.hear(PATIENCE) is not None:
        pass  # messages from before the kill
    return pair.ended("hv", NOTICE * 2)


def _account(pair: Pair, kill: Kill, totals: Totals) -> None:
    """Compare the entries that arrived or are left in the segments with those published."""
    segments = pair.segments
    if "vmm" in kill.sides:
        if segments is None:
            return  # it had not come so far
        try:
            pair.drain()
        except ValueError as error:
            totals.fail(pair, f"{kill}: {error}")
            return
    elif pair.last.get("kind") != "error" or pair.last["type"] != "PeerDied":
        totals.fail(pair, f"{kill}: the VMM reports {pair.last}")
        return
    elif "SIGKILL" not in pair.last["text"] and kill.at != "start":
        totals.fail(pair, f"{kill}: the VMM reports {pair.last['text']}")
    elif segments is not None and (wrong := pair.wrong_indices()):
        totals.fail(pair, f"{kill}: {wrong}")
    if segments is None:
        return
    for vcpu, tally in enumerate(pair.tally):
        ahead = int(tally[Count.next]) - segments.note(guest.WRITTEN, vcpu)
        if ahead > 2 * pair.setup.longest + 2:  # an operation is two entries at most
            totals.fail(pair, f"{kill}: {ahead} entries of vCPU {vcpu} more than one burst")
    totals.take(pair)
