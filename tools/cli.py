"""The command line of `coalesced`: its commands, and what an error comes to."""

from __future__ import annotations

import errno
import importlib
from collections.abc import Callable

import typer

from hv.errors import CoalescedError, RequestError
from tools.errors import BadInput

# Command: the module that adds it. Only the one that is called gets imported: start-up time.
COMMANDS = {
    "demo": "tools.demo",
    "run": "tools.run",
    "replay": "tools.replay",
    "qtest": "tools.qtest",
    "stress": "tools.stress.command",
    "bench": "tools.bench.command",
    "litmus": "tools.litmus.command",
    "info": "tools.info",
}


def application(arguments: list[str]) -> typer.Typer:
    """The program with the command that the arguments name, with all commands if they name none.

    Each module's `register(app)` adds its command.
    """
    app = typer.Typer(
        name="coalesced",
        add_completion=False,
        no_args_is_help=True,
        help="Coalesced I/O as KVM and QEMU do it: two processes around a shared-memory ring.",
    )
    app.callback()(_program)  # with it, a single command keeps its name on the command line
    named = [arguments[0]] if arguments and arguments[0] in COMMANDS else list(COMMANDS)
    for name in named:
        importlib.import_module(COMMANDS[name]).register(app)
    return app


def _program() -> None:
    """Coalesced I/O as KVM and QEMU do it: two processes around a shared-memory ring."""


def run(arguments: list[str], say: Callable[[str], None]) -> int:
    """Carry out a command line, with one line through `say` for what goes wrong."""
    try:
        command = typer.main.get_command(application(arguments))
        status = command.main(arguments, prog_name="coalesced", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except BadInput as error:
        say(str(error))
        return 2
    except RequestError as error:
        say(str(error))
        return 2 if error.errno == errno.ENOENT else 1
    except CoalescedError as error:
        say(str(error))
        return 1
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            say(f"{error.filename or 'standard output'}: {error.strerror or error}")
        return 1
    except Exception as error:
        # typer has changed where its usage errors live; what they can do has stayed.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        text = " ".join(str(message()).split())
        if text:
            say(text)
        return int(getattr(error, "exit_code", 2))
