"""Runs a guest beside its page, and starts it again when the page asks for that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from coalesced.tools.live.agent import Agent
from coalesced.tools.live.exit_pace import ExitPace
from coalesced.tools.live.link import Link
from coalesced.tools.live.pace import Pace
from coalesced.tools.live.price import exit_seconds
from coalesced.tools.runs.comparison import board_of, screen_of
from coalesced.tools.runs.options import RunOptions
from coalesced.tools.runs.outputs import trace_file
from coalesced.tools.runs.replay import job as replay_job
from coalesced.tools.runs.results import Run
from coalesced.tools.runs.runner import BoardT, Job, Ran, SeenT, run_job
from coalesced.tools.traces.trace import Trace
from coalesced.vmm.board import Board
from coalesced.vmm.machine import Machine

PACED = "coalesced.tools.guests.paced:run"


@dataclass(frozen=True)
class Page:
    """The page of a session: the link to its server, and whether the guest starts at once."""

    link: Link
    running: bool
    leave: bool  # when the guest has ended, instead of showing that
    recorded: bool = False  # then its end is shown once, also before leaving


@dataclass(frozen=True)
class Title:
    """The heading of the page: a name, and a task for the reader."""

    name: str
    task: str = ""
    rate: int | None = None  # accesses a second of a guest that starts at once, None: all it can


class Subject(Protocol):
    """A guest that can be shown."""

    def __call__(self, options: RunOptions, page: Page) -> tuple[Run, RunOptions | None]:
        """Run it once; the run, and the options of another one if the page asks for it."""


def guest(
    title: Title, function: str, specs: Sequence[str], arguments: Mapping[str, object] | None = None
) -> Subject:
    """A guest that is a Python function, on a PC with these devices."""

    def run(options: RunOptions, page: Page) -> tuple[Run, RunOptions | None]:
        job = Job(function, arguments or {}, board_of(specs, options.network), screen_of)
        return _run(title, job, lambda board: board, options, page)

    return run


def replay(name: str, recorded: Trace, specs: list[str]) -> Subject:
    """The accesses of a trace."""
    return of_job(name, replay_job(recorded, specs), lambda stage: stage.board)


def of_job(name: str, job: Job[BoardT, SeenT], board: Callable[[BoardT], Board]) -> Subject:
    """Any job; `board`: finds the PC in what its `build` returns."""

    def run(options: RunOptions, page: Page) -> tuple[Run, RunOptions | None]:
        return _run(Title(name), job, board, options, page)

    return run


def _run(
    title: Title,
    job: Job[BoardT, SeenT],
    board: Callable[[BoardT], Board],
    options: RunOptions,
    page: Page,
) -> tuple[Run, RunOptions | None]:
    agents: list[Agent] = []
    price = exit_seconds(options.wait, options.cpus)
    guest, arguments = job.guest, dict(job.arguments)
    if not job.machine_code:
        guest, arguments = PACED, {"name": job.guest, "arguments": arguments, "told": ""}

    def build(machine: Machine) -> BoardT:
        built = job.build(machine)
        pace = ExitPace(machine) if job.machine_code else Pace(machine)
        agent = Agent(page.link, machine, board(built), title.name, options, price, pace)
        agents.append(agent)
        if isinstance(pace, Pace):
            arguments["told"] = pace.pipe
        agent.task = title.task
        if page.running:
            agent.start(title.rate)
        return built

    def inspect(machine: Machine, built: BoardT) -> None:
        (agent,) = agents
        if page.recorded or not page.leave:
            agent.linger(
                page.leave, f"The guest has halted after {machine.counters.writes:,} writes."
            )

    shown = Job(guest, arguments, build, inspect, job.write_rom, machine_code=job.machine_code)
    try:
        # The page must be able to turn on again what it turned off.
        able = replace(options, coalesce=True)
        with trace_file(options.trace) as trace:
            ran: Ran[None] = run_job(shown, able, trace)
    finally:
        for agent in agents:
            agent.close()
    # A guest that is held sleeps with writes in its queue: no finding about the guest.
    run = replace(ran.run, waits=replace(ran.run.waits, slept_on=()))
    return run, agents[0].again
