"""The guest process that a command will need, started before the command's own imports."""

from __future__ import annotations

from contextlib import suppress

from coalesced.hv.errors import HostError
from coalesced.hv.process import GuestProcess

COMMANDS = ("demo", "run", "replay", "qtest")

_WITHOUT = {"-h", "--help", "direct", "--accel=direct", "kvm", "--accel=kvm"}

_waiting: GuestProcess | None = None


def start(arguments: list[str]) -> None:
    """Start a guest process if this command line will probably want one."""
    global _waiting  # noqa: PLW0603 - one per program, between its start and its first run
    wanted = arguments[:1] and arguments[0] in COMMANDS
    if wanted and not _WITHOUT & set(arguments):
        with suppress(HostError):  # told when somebody takes one
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
