"""A command line, carried out in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from coalesced.tools.commands import app


def status_of(arguments: Sequence[str], say: Callable[[str], None]) -> int:
    """Its exit status; `say` takes the line about an error."""
    try:
        return app.run(list(arguments))
    except Exception as error:
        return app.report(error, say)
