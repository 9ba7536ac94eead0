"""The end of a boot: a text on the screen or on the serial line, a time, or a halt for good."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from coalesced.tools.errors import BadInput
from coalesced.vmm.board import Board
from coalesced.vmm.machine import Machine

HALT: Final = "hlt"
TIME: Final = "time"
_LOOK_EVERY: Final = 0.02  # seconds between two looks at the screen
_HALTS_WITHIN: Final = 0.5  # seconds: where the guest halts after the text, it has printed it all


@dataclass(frozen=True)
class Until:
    """Seconds, a text, or neither: then the guest ends by itself."""

    seconds: float | None = None
    text: str | None = None


def parse(given: str) -> Until:
    """--until: `hlt`, a number of seconds above 0, or a text. Raises BadInput."""
    if given == HALT:
        return Until()
    try:
        seconds = float(given)
    except ValueError:
        if not given.strip():
            raise BadInput("--until: expected hlt, seconds or a text, got nothing") from None
        return Until(text=given)
    if not 0 < seconds <= 86400:
        raise BadInput(f"--until {given}: expected above 0 to 86400 seconds")
    return Until(seconds=seconds)


@dataclass(frozen=True)
class Output:
    """The output of a guest: its screens and its serial line."""

    board: Board
    serial: bytearray

    def shows(self, text: str) -> bool:
        """Whether a text is on a screen now, or came over the line; drains nothing."""
        return text.encode(errors="replace") in self.serial or any(
            text in line for display in self.board.displays for line in display.text() or ()
        )


class Watch:
    """Stops a machine at the first of several ends, and reports which one it was."""

    def __init__(self, machine: Machine, until: Until, output: Output) -> None:
        self._machine = machine
        self._until = until
        self._output = output
        self.stopped_by = HALT
        if until.seconds is not None:
            machine.loop.call_at(time.monotonic() + until.seconds, self._stopper(TIME))
        if until.text is not None:
            self._look_again()

    def _stopper(self, reason: str) -> Callable[[], None]:
        def stop() -> None:
            self.stopped_by = reason
            self._machine.stop()

        return stop

    def _look_again(self) -> None:
        self._machine.loop.call_at(time.monotonic() + _LOOK_EVERY, self._look)

    def _look(self) -> None:
        if self._output.shows(self._until.text or ""):
            self._machine.stop_at_halt()
            self._machine.loop.call_at(time.monotonic() + _HALTS_WITHIN, self._machine.stop)
            self.stopped_by = "text"
        else:
            self._look_again()
