"""The signal handlers of a guest that runs in this process, kept out of the machine's code.

A handler may raise. Inside a device that would look like the device's failure, or leave its state
inconsistent: so handlers are called only between accesses of the guest.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_set, _get = signal.signal, signal.getsignal  # as Python has them
_current: GuestHandlers | None = None  # of the guest whose code runs now


class GuestHandlers:
    """Handlers that a guest installed with `signal.signal`; as a context, code they must not enter.

    A signal that comes in there has its handler called at the end.
    """

    def __init__(self) -> None:
        self.closed = True  # no handler may be called now
        self.due: dict[int, FrameType | None] = {}  # by signal: as in a kernel, each is due once
        self._handlers: dict[int, Any] = {}
        self._before: dict[int, Any] = {}
        self._when_any: Callable[[], None] | None = None

    def __enter__(self) -> None:
        self.closed = True

    def __exit__(self, kind: object, *_: object) -> None:
        self.closed = False
        if kind is None and self.due:
            self.call_due()

    def when_any(self, call: Callable[[], None]) -> None:
        """Call when the guest has a handler: now, or before it installs its first."""
        if self._handlers:
            call()
        else:
            self._when_any = call

    def outside(self, call: Callable[P, T]) -> Callable[P, T]:
        """The same call, with no handler called in it."""

        def closed_to_handlers(*arguments: P.args, **named: P.kwargs) -> T:
            self.closed = True
            try:
                result = call(*arguments, **named)
            finally:
                self.closed = False
            if self.due:
                self.call_due()
            return result

        return closed_to_handlers

    def call_due(self) -> None:
        """Call the handlers of what came meanwhile; after one that raises, the rest stay due."""
        while self.due:
            number = min(self.due)
            self._handlers[number](number, self.due.pop(number))

    @contextmanager
    def watched(self) -> Iterator[None]:
        """The guest's code runs: handlers that it installs are kept here."""
        global _current
        before = _current, signal.signal, signal.getsignal
        _current, signal.signal, signal.getsignal = self, _signal, _getsignal
        try:
            yield
        finally:
            _current, signal.signal, signal.getsignal = before

    def retire(self) -> None:
        """The guest has ended: restore the handlers that it replaced; its own do nothing more."""
        self.closed = True
        for number, handler in self._before.items():
            if callable(handler):
                _set(number, handler)
        self._before.clear()
        self._handlers.clear()
        self.due.clear()

    # --- what the guest calls ---

    def install(self, number: int, handler: Any) -> Any:
        """`signal.signal`."""
        number = int(number)
        # A signal that meets neither handler would be lost: the new one is known first.
        previous = self._handlers.get(number)
        own = callable(handler) and handler is not signal.default_int_handler
        if own:
            if self._when_any is not None:
                self._when_any()
                self._when_any = None
            self._handlers[number] = handler
        try:
            before = _set(number, self._called if own else handler)
        except BaseException:
            self._handlers[number] = previous
            raise
        if before == self._called:
            return previous
        self._before.setdefault(number, before)
        return before

    def installed(self, number: int) -> Any:
        """`signal.getsignal`."""
        handler = _get(number)
        return self._handlers.get(int(number)) if handler == self._called else handler

    def _called(self, number: int, frame: FrameType | None) -> None:
        handler = self._handlers.get(number)
        if handler is None:
            return  # the guest has ended
        if self.closed:
            self.due[number] = frame
        else:
            handler(number, frame)


def _signal(signalnum: int, handler: Any) -> Any:
    """`signal.signal`, of which guests keep a name when they import it."""
    return _set(signalnum, handler) if _current is None else _current.install(signalnum, handler)


def _getsignal(signalnum: int) -> Any:
    return _get(signalnum) if _current is None else _current.installed(signalnum)
