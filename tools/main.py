"""The entry point of `coalesced`. Little is imported before Ctrl-C is taken care of."""

from __future__ import annotations

import os
import sys

from coalesced.tools.interruption import interrupted


def main() -> None:
    """Run the command line; never returns.

    Exit status 0 success, 1 a check or a run failed, 2 wrong usage or bad input, 130 after Ctrl-C.
    SIGTERM and SIGHUP end the process by that signal, after everything is released.
    """
    try:
        sys.unraisablehook = _unraisable
        from coalesced.tools import program  # noqa: PLC0415

        status = program.run(sys.argv[1:])
    except BaseException as error:
        if not interrupted(error):
            raise
        _say_interrupted()  # during the import above
        status = 130
    sys.exit(status)


def _unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """End the program for a Ctrl-C inside a callback that cannot raise, as in an import."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        _say_interrupted()
        os._exit(130)  # the guest process ends with this one
    sys.__unraisablehook__(unraisable)


def _say_interrupted() -> None:
    try:
        os.write(2, b"coalesced: interrupted\n")
    except OSError:
        return  # there is nowhere else to write it
