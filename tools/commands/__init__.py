"""The commands of `coalesced`, one file for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Command(NamedTuple):
    """A module whose `register(app)` adds the command; whether the command starts a guest process.

    Only the called command's module is imported: start-up time.
    """

    module: str
    starts_guest: bool = False


COMMANDS = {
    "demo": Command("demo", starts_guest=True),
    "run": Command("run", starts_guest=True),
    "replay": Command("replay", starts_guest=True),
    "boot": Command("boot", starts_guest=True),
    "live": Command("live", starts_guest=True),
    "qtest": Command("qtest", starts_guest=True),
    "stress": Command("stress"),
    "bench": Command("bench"),
    "litmus": Command("litmus"),
    "advise": Command("advise"),
    "info": Command("info"),
}


def wants_guest_process(arguments: Sequence[str]) -> bool:
    """True when this command line starts a guest process. Decided before the parser is imported."""
    if not arguments or arguments[0] not in COMMANDS:
        return False
    options = list(arguments[: arguments.index("--")] if "--" in arguments else arguments)
    pairs = zip(options, [*options[1:], ""], strict=True)
    chosen = [value for word, value in pairs if word == "--accel"]
    chosen += [word.partition("=")[2] for word in options if word.startswith("--accel=")]
    helped = {"-h", "--help"} & set(options)
    return COMMANDS[arguments[0]].starts_guest and not helped and set(chosen) <= {"process"}
