"""Entry of `coalesced`: exit statuses, and one line for what goes wrong."""

from __future__ import annotations

import os
import signal
import sys

from hv import signals
from tools import termination


def main() -> None:
    """Run the command line; never returns.

    Exit status 0 success, 1 a check or a run failed, 2 wrong usage or bad input, 130 after Ctrl-C;
    SIGTERM and SIGHUP end it as such, once everything is given back.
    """
    sys.unraisablehook = _unraisable
    termination.watch()
    _open_standard_streams()
    signals.inherit_properly()
    try:
        try:
            status = _run(sys.argv[1:])
            status = _flush(status)
        finally:
            # What is left is short, and Python itself would die of a SIGINT while it shuts down.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            termination.let_go()
    except BaseException as error:
        if not _by_ctrl_c(error):
            raise
        status = 130
        _say("interrupted")
    finally:
        _close_early()
    status = _flush(status)
    sys.exit(status)


def _run(arguments: list[str]) -> int:
    # numpy's linear algebra would start threads that nothing here uses.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from tools import early  # noqa: PLC0415 - Ctrl-C during an import must end quietly, too

    early.start(arguments)
    from tools import cli  # noqa: PLC0415

    return cli.run(arguments, _say)


def _flush(status: int) -> int:
    """Write out what was printed; the exit status, never success when nobody takes it."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return status or 1
    return status


def _open_standard_streams() -> None:
    """Whoever started this closed one: nothing else may get its number, and writing is lost."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def _by_ctrl_c(error: BaseException | None) -> bool:
    """Is it a KeyboardInterrupt, or did one become it? Python wraps what a class body raises."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__
    return False


def _unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """Ctrl-C inside a callback that cannot raise, of an import say, must not get lost."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        _say("interrupted")
        os._exit(130)  # the guest process ends with this one
    sys.__unraisablehook__(unraisable)


def _close_early() -> None:
    early = sys.modules.get("tools.early")
    if early is not None:
        early.close()


def _say(text: str) -> None:
    from hv.printable import printable_lines  # noqa: PLC0415

    sys.stderr.write(f"coalesced: {printable_lines(text)}\n")
