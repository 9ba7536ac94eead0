"""The entry point of `coalesced`: exit statuses, and one line for each error."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

from coalesced.hv import signals
from coalesced.hv.errors import one_line
from coalesced.hv.printable import printable_lines
from coalesced.tools import streams, termination


def main() -> None:
    """Run the command line; never returns.

    Exit status 0 success, 1 a check or a run failed, 2 wrong usage or bad input, 130 after Ctrl-C.
    SIGTERM and SIGHUP end the process by that signal, after everything is released.
    """
    sys.unraisablehook = _unraisable
    termination.watch()
    streams.open_standard()
    signals.inherit_properly()
    try:
        try:
            status = _run(sys.argv[1:])
            status = _flush(status)
        finally:
            # The rest is short, and a SIGINT while Python shuts down would kill it.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            termination.let_go()
            signals.hold_handlers()  # what a device left behind raises into nothing
    except BaseException as error:
        interrupt = _ctrl_c(error)
        if interrupt is None:
            raise
        status = 130
        _say(f"interrupted: {interrupt}".removesuffix(": "))
    finally:
        _close_early()
    status = _flush(status)
    sys.exit(status)


def _run(arguments: list[str]) -> int:
    # numpy's linear algebra would start threads that nothing here uses.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        # Ctrl-C during an import must end quietly, too.
        from coalesced.tools import commands  # noqa: PLC0415

        if commands.wants_guest_process(arguments):
            from coalesced.tools import early  # noqa: PLC0415

            early.start()
        from coalesced.tools.commands import app as cli  # noqa: PLC0415
    except (ImportError, MemoryError, OSError) as error:
        _say(f"this program cannot be loaded (limits on open files, memory?): {one_line(error)}")
        return 1
    return cli.run(arguments, _say)


def _flush(status: int) -> int:
    """Flush stdout; the exit status, 1 instead of 0 when that fails."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return status or 1  # the reader has closed the pipe
    except OSError as error:
        _say(f"{error.filename or 'standard output'}: {error.strerror or error}")
        return status or 1
    return status


def _ctrl_c(error: BaseException | None) -> KeyboardInterrupt | None:
    """The KeyboardInterrupt behind an error: Python wraps what a class body raises."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__
    return error


def _unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """End the program for a Ctrl-C inside a callback that cannot raise, as in an import."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        _say("interrupted")
        os._exit(130)  # the guest process ends with this one
    sys.__unraisablehook__(unraisable)


def _close_early() -> None:
    early = sys.modules.get("coalesced.tools.early")
    if early is not None:
        early.close()


def _say(text: str) -> None:
    with suppress(OSError):  # there is nowhere else to write it
        sys.stderr.write(f"coalesced: {printable_lines(text)}\n")
