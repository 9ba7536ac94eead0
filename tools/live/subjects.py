"""What can be shown, by its name on the command line."""

from __future__ import annotations

from pathlib import Path

from coalesced.tools import traces
from coalesced.tools.errors import BadInput
from coalesced.tools.live import session
from coalesced.tools.live.session import Subject
from coalesced.tools.runs.boards import DEFAULT_DEVICE, DEFAULT_MACHINE
from coalesced.tools.traces.trace import read

DEMOS = {
    "vga": ("coalesced.tools.guests.vga:draw", [DEFAULT_DEVICE]),
    "cirrus": ("coalesced.tools.guests.cirrus:draw", ["cirrus-vga,addr=02.0"]),
}


def find(what: str, devices: list[str]) -> Subject:
    """A demonstration, FILE.py:FUNCTION, or a trace. `devices`: SPECs, empty for the usual ones.

    Raises BadInput, and what reading a trace raises.
    """
    if what in DEMOS:
        function, specs = DEMOS[what]
        return session.guest(what, function, devices or specs)
    where, _, function = what.rpartition(":")
    if where.endswith(".py"):
        path = Path(where).absolute()
        if not path.is_file():
            raise BadInput(f"guest {where}: no such file")
        return session.guest(what, f"{path}:{function}", devices or [DEFAULT_DEVICE])
    return session.replay(what, read(traces.find(what)), devices or DEFAULT_MACHINE)
