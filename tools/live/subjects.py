"""The subjects of `live`, by their names on the command line."""

from __future__ import annotations

from pathlib import Path

from coalesced.tools import traces
from coalesced.tools.errors import BadInput
from coalesced.tools.live import session
from coalesced.tools.live.lessons import PREFIX, numbered
from coalesced.tools.live.session import Subject, Title
from coalesced.tools.runs import demos
from coalesced.tools.runs.boards import DEFAULT_DEVICE, DEFAULT_MACHINE
from coalesced.tools.runs.options import RunOptions
from coalesced.tools.traces.trace import read

DEMOS = {
    "vga": ("coalesced.tools.guests.vga:draw", [DEFAULT_DEVICE]),
    "cirrus": ("coalesced.tools.guests.cirrus:draw", ["cirrus-vga,addr=02.0"]),
}
EXCHANGE = "e1000"
"""The demonstration on a network; it has its card, and takes no other."""
TRACE = "trace:"


def find(what: str, devices: list[str], options: RunOptions) -> tuple[Subject, RunOptions]:
    """A demonstration, a lesson, FILE.py:FUNCTION, or a trace, and the options of its first run.

    `devices`: SPECs, empty for the usual ones. Raises BadInput, and what reading a trace raises.
    """
    if what.startswith(PREFIX):
        lesson = numbered(what.removeprefix(PREFIX))
        title = Title(f"{what}, {lesson.title}", lesson.task, lesson.rate)
        specs = devices or lesson.specs
        subject = session.guest(title, lesson.function, specs, lesson.arguments)
        return subject, lesson.options(options)
    return _plain(what, devices), options


def _plain(what: str, devices: list[str]) -> Subject:
    if what in DEMOS:
        function, specs = DEMOS[what]
        return session.guest(Title(what), function, devices or specs)
    if what == EXCHANGE:
        if devices:
            raise BadInput(f"--device {devices[0]}: cannot be used with e1000, which has its card")
        from coalesced.tools.runs.e1000 import exchange_job  # noqa: PLC0415 - of this one alone

        job = exchange_job(demos.FRAMES, demos.BURST, demos.BURST)
        return session.of_job(what, job, lambda built: built[0])
    where, _, function = what.rpartition(":")
    if where.endswith(".py"):
        path = Path(where).absolute()
        if not path.is_file():
            raise BadInput(f"guest {where}: no such file")
        return session.guest(Title(what), f"{path}:{function}", devices or [DEFAULT_DEVICE])
    recorded = read(traces.find(what.removeprefix(TRACE)))
    return session.replay(what, recorded, devices or DEFAULT_MACHINE)
