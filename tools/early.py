"""A guest process that is started before the imports of the command that needs it."""

from __future__ import annotations

from contextlib import suppress

from coalesced.hv.errors import HostError
from coalesced.hv.process import GuestProcess

_waiting: GuestProcess | None = None


def start() -> None:
    """Start a guest process for the first `take`, which reports the error if that fails."""
    global _waiting  # noqa: PLW0603 - one per program, between its start and its first run
    with suppress(HostError):
        _waiting = GuestProcess()


def take() -> GuestProcess:
    """The waiting guest process, or a new one; the caller ends it. Raises HostError."""
    global _waiting
    process, _waiting = _waiting, None
    return process or GuestProcess()


def close() -> None:
    """End a guest process that nobody took."""
    global _waiting  # noqa: PLW0603
    if _waiting is not None:
        _waiting.close()
        _waiting = None
