"""The page of commands, made from their own --help when the site is built."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

PLACE = "<!-- commands -->"
SETTINGS = {"COLUMNS": "88", "TERM": "dumb", "NO_COLOR": "1"}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for each page: fill in the page that has the place for it."""
    return markdown.replace(PLACE, commands()) if PLACE in markdown else markdown


def commands() -> str:
    """A section for each command and each of its subcommands."""
    return "\n".join(f"## coalesced {name}\n\n```text\n{shown(name)}\n```\n" for name in names())


def names() -> list[str]:
    """Commands and subcommands, as they are typed."""
    import typer  # noqa: PLC0415 - only the build of the site needs these

    from coalesced.tools.commands.app import application  # noqa: PLC0415

    found: list[str] = []
    for name, command in typer.main.get_command(application([])).commands.items():  # type: ignore[attr-defined]
        found.append(name)
        found += [f"{name} {sub}" for sub in getattr(command, "commands", {})]
    return found


def shown(name: str) -> str:
    """The output of `coalesced NAME --help`."""
    code = "from coalesced.tools.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *name.split(), "--help"],
        env={**os.environ, **SETTINGS},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return "\n".join(line.rstrip() for line in done.stdout.strip("\n").splitlines())
