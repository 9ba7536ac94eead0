"""Takes one barrier out of the ring, beside the guest: the run that fails, and why it can.

Both are commands of this program, in processes of their own: `stress --break` runs a core that
lacks the barrier, `litmus --remove` finds the shortest execution that goes wrong.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from coalesced.tools.live.link import Message

SECONDS: Final = 10
"""Longest time of the stress run."""
_PROGRAM: Final = "import sys; from coalesced.tools.main import main; sys.exit(main())"


class Breaking:
    """At most one barrier is taken out at a time; `shown` is what the page shows of it."""

    def __init__(self, barriers: Sequence[str], tell: Callable[[], None]) -> None:
        """`barriers`: those that `stress --break` knows; `tell`: called when `shown` changes."""
        self._barriers = list(barriers)
        self._tell = tell
        self._task: asyncio.Task[None] | None = None
        self.shown: Message = {"barriers": self._barriers, "busy": False}

    def start(self, barrier: object) -> None:
        """Take one out. Raises ValueError for a name that is none, or while another is out."""
        if barrier not in self._barriers:
            raise ValueError(f"expected one of {self._barriers}, got {barrier!r}")
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._run(str(barrier)))

    async def close(self) -> None:
        """End what runs."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self, barrier: str) -> None:
        self._show(barrier=barrier, busy=True)
        found = await _answer("litmus", "--remove", barrier)
        self._show(**_witness(found))
        found = await _answer("stress", "--break", barrier, "--seconds", str(SECONDS))
        self._show(stress=_stressed(found), busy=False)

    def _show(self, **members: object) -> None:
        old = {} if "barrier" in members else self.shown
        self.shown = {**old, **members, "barriers": self._barriers}
        self._tell()


def _witness(found: Message | str) -> Message:
    """The first model whose execution goes wrong: its steps, by thread, and what is wrong."""
    if isinstance(found, str):
        return {"litmus": found, "steps": []}
    for case in found["cases"]:
        if not case["ok"]:
            lines = [line.partition(": ")[2] for line in case["witness"]]
            steps = [
                [event["thread"], line] for event, line in zip(case["events"], lines, strict=True)
            ]
            return {"litmus": f"Under {case['model']}, {case['why']}.", "steps": steps}
    return {"litmus": "No model of litmus has an execution that goes wrong.", "steps": []}


def _stressed(found: Message | str) -> str:
    if isinstance(found, str):
        return found
    entries, seconds = found["entries"], found["seconds"]
    after = f"after {entries:,} entries, {seconds:.1f} s"
    if not found["found"]:
        return f"No failure {after}: this processor and this compiler did not show it."
    counts = [
        f"{found[name]:,} {name}"
        for name in ("lost", "duplicated", "reordered", "torn")
        if found[name]
    ]
    return f"It fails {after}: {'; '.join([*counts, *found['failures'][:1]])}"


async def _answer(*arguments: str) -> Message | str:
    """The JSON object of a command, or its line of error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", _PROGRAM, *arguments, "--json"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            await process.wait()
    if not out:
        return err.decode().strip()
    answer: Message = json.loads(out)
    return answer
