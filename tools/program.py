"""The program from its first signal to its exit status, with one line for each error."""

from __future__ import annotations

import gc
import os
import signal
import sys
from contextlib import suppress

from coalesced.hv import signals
from coalesced.hv.errors import one_line
from coalesced.hv.printable import printable_lines
from coalesced.tools import streams, termination
from coalesced.tools.interruption import interrupted

_NARROWEST = 20  # columns in which a table can be read


def run(arguments: list[str]) -> int:
    """Carry out a command line, ready for every signal; the exit status of `main`."""
    try:
        termination.watch()
        streams.open_standard()
        signals.inherit_properly()
        status = _flush(_run(arguments))
        _hold_signals()
    except BaseException as error:
        try:  # noqa: SIM105 - `suppress` is a function, before which a handler could raise
            signals.block_all()
        except BaseException:  # of a device's handler that raises repeatedly
            pass
        _hold_signals()
        status = _report(error)
    finally:
        _close_early()
    return _flush(status)


def _hold_signals() -> None:
    """Nothing interrupts the rest of the program, which is short."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it would kill Python while it shuts down
    termination.let_go()
    signals.hold_handlers()


def _report(error: BaseException) -> int:
    """Print the line about an error and return the exit status; raises a fault of this program."""
    interrupt = interrupted(error)
    if interrupt is not None:
        _say(f"interrupted: {interrupt}".removesuffix(": "))
        return 130
    if not isinstance(error, Exception):
        raise error
    from coalesced.tools.commands import app as cli  # noqa: PLC0415

    return cli.report(error, _say)


def _run(arguments: list[str]) -> int:
    gc.disable()  # until `app.run` has imported the command: passes over modules find no garbage
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) < _NARROWEST:
        del os.environ["COLUMNS"]  # some consoles say 0; rich would print nothing at all
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
    return cli.run(arguments)


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


def _close_early() -> None:
    early = sys.modules.get("coalesced.tools.early")
    if early is not None:
        early.close()


def _say(text: str) -> None:
    with suppress(OSError):  # there is nowhere else to write it
        sys.stderr.write(f"coalesced: {printable_lines(text)}\n")
