"""The command line of `coalesced`: finds the command, and turns errors into exit statuses."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer
from typer.completion import shell_complete

from coalesced.hv import guest
from coalesced.hv.printable import printable_lines
from coalesced.tools import errors, failures
from coalesced.tools.commands import COMMANDS
from coalesced.tools.commands.arguments import split

COMPLETE = "_COALESCED_COMPLETE"  # the variable by which a shell asks for completions


def application(arguments: list[str]) -> typer.Typer:
    """The program with the command that the arguments name, or with all if they name none."""
    app = typer.Typer(
        name="coalesced",
        no_args_is_help=True,
        help="Coalesced I/O as KVM and QEMU do it: two processes around a shared-memory ring.",
    )
    app.callback()(_program)  # with it, a single command keeps its name on the command line
    for name in _named(arguments[:1]):
        importlib.import_module(f"{__package__}.{COMMANDS[name].module}").register(app)
    return app


def _named(first: list[str]) -> list[str]:
    if first == ["--version"]:
        return []
    return first if first and first[0] in COMMANDS else list(COMMANDS)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - a fifth of the start of a command

        print(f"coalesced {version('coalesced-mmio')}")
        raise typer.Exit


def _program(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version, and exit."
        ),
    ] = False,
) -> None:
    """Coalesced I/O as KVM and QEMU do it: two processes around a shared-memory ring."""


def run(arguments: list[str]) -> int:
    """Carry out a command line and return its exit status; `report` takes its exceptions."""
    try:
        command = typer.main.get_command(application(arguments))
        _collect()
        if asked := os.environ.get(COMPLETE):
            return shell_complete(command, {}, "coalesced", COMPLETE, asked)
        # Not command.main(): it would turn Ctrl-C into an exit status without a word.
        with command.make_context(
            "coalesced", split(arguments), help_option_names=["-h", "--help"]
        ) as context:
            status = command.invoke(context)
        return status if isinstance(status, int) else 0
    except typer.Exit as left:
        return left.exit_code


def _collect() -> None:
    """Start the collector of garbage if it is off, without what is imported by now."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def report(error: Exception, say: Callable[[str], None]) -> int:
    """Give `say` the line about an error and return the exit status.

    Raises the error itself when it is a fault of this program.
    """
    failure = failures.of(error)
    if failure is None:
        raise error
    status, text = failure
    if errors.show_frames:
        sys.stderr.write(printable_lines(getattr(error, "frames", "") or guest.frames(error)))
    if text:
        say(text)
    return status
