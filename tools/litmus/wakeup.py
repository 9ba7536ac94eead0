"""Going to sleep and being woken, as in hv/core/exit.h and wait.c with `--wait adaptive`.

Guest and VMM play two rounds of exit and answer; each may stop to spin at any time and go to sleep.
A wake-up is lost when a side sleeps although its word has arrived. No sleep ends by itself here:
the timeouts of wait.c would hide a lost wake-up.
"""

from __future__ import annotations

from collections.abc import Sequence

from coalesced.tools.litmus.access import FENCE, Access, Choice, Place, Program, only
from coalesced.tools.litmus.steps import Orders

ROUNDS = 2
_WORD, _NEED, _PIPE = 0, 2, 4  # plus 0 for the guest's, 1 for the VMM's
_GUEST, _VMM = 0, 1

Position = tuple[str, int, bool]


def program(orders: Orders) -> Program:
    """Two rounds, without what `orders` says is removed."""
    return Program(
        places=(
            "exit sequence",
            "resume sequence",
            "the guest's need-wakeup",
            "the VMM's need-wakeup",
            "the guest's pipe",
            "the VMM's pipe",
        ),
        memory=(0,) * 6,
        threads=(Party("guest", _GUEST, orders), Party("VMM", _VMM, orders)),
        stuck="a wake-up is lost: one sleeps although its word is there, the other waits for it",
    )


class Party:
    """One side: it posts its word and awaits the other's, the guest first."""

    def __init__(self, side: str, me: int, orders: Orders) -> None:
        self.side = side
        self._me, self._peer, self._orders = me, 1 - me, orders
        # What it does next, the round, and whether bytes that woke it are still in the pipe.
        self.start: Position = ("post" if me == _GUEST else "wait", 1, False)

    def ahead(self, position: Position) -> Sequence[Choice[Position]]:
        at, n, undrained = position
        if at in ("post", "fence", "test", "wake", "posted"):
            return self._post(at, n, undrained)
        return self._wait(at, n, undrained)

    def _post(self, at: str, n: int, undrained: bool) -> Sequence[Choice[Position]]:
        """doorbell_signal"""
        posted: Position = ("posted", n, undrained)
        choices: Sequence[Choice[Position]]
        match at:
            case "post":
                name = ("exit", "resume")[self._me]
                word = self._store("W1", _WORD, n, f"{name} sequence = {n}", order="release")
                choices = ((word, ("fence", n, undrained)),)
            case "fence":
                fence = FENCE if self._orders.fence("W2") else None
                choices = ((fence, ("test", n, undrained)),)
            case "test":
                need = _NEED + self._peer
                choices = (
                    (self._load("W3", need, only(0), "need-wakeup of the other"), posted),
                    (
                        self._load("W3", need, only(1), "need-wakeup of the other"),
                        ("wake", n, undrained),
                    ),
                )
            case "wake":
                byte = Access("W4", "store", _PIPE + self._peer, "a byte into the other's pipe",
                              value=1, call=True)  # fmt: skip
                choices = ((byte, posted),)
            case _ if self._me == _GUEST:
                choices = ((None, ("wait", n, undrained)),)
            case _:
                choices = () if n == ROUNDS else ((None, ("wait", n + 1, undrained)),)
        return choices

    def _wait(self, at: str, n: int, undrained: bool) -> Sequence[Choice[Position]]:
        """core_wait: spin, or arm, look again and sleep."""
        word = _WORD + self._peer
        there, not_yet = only(n), only(*range(n))
        name = ("resume", "exit")[self._me] + " sequence"
        choices: Sequence[Choice[Position]]
        match at:
            case "wait":
                choices = (*self._wait("take", n, undrained), (None, ("drain", n, undrained)))
            case "take":
                done = self._load("", word, there, name, order="acquire")
                choices = ((done, ("taken", n, undrained)),)
            case "drain" if undrained:
                empty = Access("S6", "store", _PIPE + self._me, "its pipe is empty", call=True)
                choices = ((empty, ("arm", n, False)),)
            case "drain":
                choices = ((None, ("arm", n, False)),)
            case "arm":
                need = self._store("S1", _NEED, 1, "need-wakeup = 1")
                choices = ((need, ("armed", n, False)),)
            case "armed":
                fence = FENCE if self._orders.fence("S2") else None
                choices = ((fence, ("look", n, False)),)
            case "look":
                choices = (
                    (self._load("S3", word, there, name), ("disarm", n, False)),
                    (self._load("S3", word, not_yet, name), ("sleep", n, False)),
                )
            case "sleep":
                woken = self._load("S4", _PIPE + self._me, only(1), "woken by its pipe", call=True)
                choices = ((woken, ("woken", n, True)),)
            case "disarm":
                choices = ((self._store("S5", _NEED, 0, "need-wakeup = 0"), ("take", n, False)),)
            case "woken":
                choices = ((self._store("S5", _NEED, 0, "need-wakeup = 0"), ("wait", n, True)),)
            case _ if self._me == _VMM:
                choices = ((None, ("post", n, undrained)),)
            case _:
                choices = () if n == ROUNDS else ((None, ("post", n + 1, undrained)),)
        return choices

    def _store(
        self, step: str, kind: Place, value: int, text: str, order: str = "relaxed"
    ) -> Access:
        return Access(step, "store", kind + self._me, text, value=value, order=order)

    def _load(
        self,
        step: str,
        place: Place,
        values: int,
        text: str,
        order: str = "relaxed",
        call: bool = False,
    ) -> Access:
        step = step or ("G3", "V1")[self._me]
        return Access(
            step, "load", place, text, values=values, order=order, control=True, call=call
        )
