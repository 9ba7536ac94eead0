"""The cost of `coalesced live` for a guest at full speed: without a page, closed, and open."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from coalesced.hv import core
from coalesced.hv.errors import HostError
from coalesced.tools.bench import host, report
from coalesced.tools.bench.measure import NOTHING, Spread, Step, Taken, interleaved, rounds, spread
from coalesced.tools.bench.registry import Options, Plan
from coalesced.tools.bench.spawn import Spawned
from coalesced.tools.guests import bench as guest

if TYPE_CHECKING:
    from coalesced.tools.bench.spawn import Control

LIMIT_PERCENT: Final = 5.0
"""The loss with the page open that is accepted."""
PLAIN: Final = "`run`, no page"
CLOSED: Final = "`live`, page closed"
OPEN: Final = "`live`, page open"
_PROGRAM: Final = "import sys; from coalesced.tools.main import main; sys.exit(main())"
_PATIENCE: Final = 10.0  # seconds for the end of a program


class Sizes(NamedTuple):
    """The size of a measurement; seconds."""

    repetitions: int
    settling: float  # before each sample
    sample: float


FULL: Final = Sizes(repetitions=7, settling=0.1, sample=0.6)
QUICK: Final = Sizes(repetitions=2, settling=0.1, sample=0.3)


@dataclass(frozen=True)
class LiveFigures:
    """Nanoseconds per write, and the writes per second lost, in percent."""

    plain_ns_per_write: Spread
    closed_ns_per_write: Spread
    open_ns_per_write: Spread
    closed_loss_percent: Spread  # against `run`
    open_loss_percent: Spread  # against the page closed
    open_loss_interval: tuple[float, float]  # of the median, 95 %
    limit_percent: float
    frames_per_second: Spread  # that the browser took


class Progress(NamedTuple):
    """A line that the guest prints: CLOCK_MONOTONIC in ns, and its writes so far."""

    ns: int
    writes: int


class Running:
    """A command whose guest writes without an end; stopped while nothing is measured."""

    def __init__(self, *command: str) -> None:
        """Raises HostError with the command's line when it cannot run."""
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM, *command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            process_group=0,  # Ctrl-C is for this process, and its guest is stopped with it
            preexec_fn=core.die_with_parent,  # noqa: PLW1509 - no threads here
        )
        self.address = ""
        """Where the page is."""
        try:
            self._after(0)
        except BaseException:
            self.close()
            raise
        self.stop()

    def stop(self) -> None:
        """Stop it, and its guest."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let both run."""
        os.killpg(self._process.pid, signal.SIGCONT)

    def ns_per_write(self, sizes: Sizes) -> float:
        """Measure a sample from now on, while it runs. Raises HostError when it ends."""
        first = self._after(time.monotonic_ns() + int(sizes.settling * 1e9))
        last = self._after(first.ns + int(sizes.sample * 1e9))
        return (last.ns - first.ns) / (last.writes - first.writes)

    def _after(self, ns: int) -> Progress:
        """The first progress after a moment."""
        assert self._process.stderr is not None
        while line := self._process.stderr.readline().decode(errors="replace").strip():
            name, _, value = line.rpartition(" ")
            if name == "The page:":
                self.address = value
            elif name.isdecimal():
                progress = Progress(int(name), int(value))
                if progress.ns >= ns:
                    return progress
            elif name != "Only to look:":
                raise HostError(line.removeprefix("coalesced: "))
        raise HostError("the program that the benchmark runs ended")

    def close(self) -> None:
        """End it."""
        with suppress(ProcessLookupError):
            self.go_on()
        self._process.terminate()
        try:
            self._process.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


def browse(address: str, control: Control) -> None:
    """Take every frame of a page between two orders, as a browser does; answer with how many.

    The process of a `Spawned`: the first order opens the page and is answered when it is there.
    """
    from websockets.exceptions import ConnectionClosed  # noqa: PLC0415 - an extra brings it
    from websockets.sync.client import connect  # noqa: PLC0415
    from websockets.typing import Origin  # noqa: PLC0415

    place = urlsplit(address)
    uri, origin = f"ws://{place.netloc}{place.path}socket", Origin(f"http://{place.netloc}")
    control.send(None)
    while True:
        control.recv()
        with suppress(ConnectionClosed), connect(uri, origin=origin, max_size=None) as page:
            _take(page.recv())
            control.send(None)
            frames = 0
            while not control.poll():
                _take(page.recv())
                frames += 1
            control.recv()
            control.send(frames)
            continue
        return


def _take(frame: str | bytes) -> None:
    """Read the state of a frame and its pixels. Raises ValueError for what is no frame."""
    assert isinstance(frame, bytes)
    (length,) = struct.unpack_from("<I", frame)
    json.loads(frame[4 : 4 + length])
    bytearray(frame[4 + length :])


class Pair:
    """The guest without a page, and with one that is opened and closed."""

    def __init__(self, sizes: Sizes, stack: ExitStack) -> None:
        """Raises HostError without the extra `live`."""
        # Where the scheduler places a pair of processes outweighs what the page costs.
        shown = (f"{guest.__file__}:endless", "--cpus", host.placements()[0])
        self._sizes = sizes
        self._plain = stack.enter_context(closing(Running("run", *shown)))
        self._live = stack.enter_context(
            closing(Running("live", *shown, "--run", "--exit", "--no-browser"))
        )
        self._browser = stack.enter_context(closing(Spawned(browse, self._live.address)))
        self.frames: list[float] = []

    def plain(self) -> float:
        """Nanoseconds per write without a page."""
        return self._sample(self._plain)

    def closed(self) -> float:
        """The same with a page that nobody looks at."""
        return self._sample(self._live)

    def open(self) -> float:
        """The same with a browser in front of it."""
        self._live.go_on()
        self._browser.ask("open")
        began = time.monotonic()
        taken = self._live.ns_per_write(self._sizes)
        seconds = time.monotonic() - began
        self.frames.append(self._browser.ask("close") / seconds)
        self._live.stop()
        return taken

    def _sample(self, running: Running) -> float:
        running.go_on()
        taken = running.ns_per_write(self._sizes)
        running.stop()
        return taken


def plan(options: Options) -> Plan:
    """The three in turns."""
    sizes = QUICK if options.quick else FULL
    steps = 3 * rounds(sizes.repetitions)
    seconds = 3 + steps * (sizes.settling + sizes.sample + 0.05)
    return Plan(steps, seconds, lambda step: measure(sizes, step))


def measure(sizes: Sizes, step: Step) -> report.Section:
    """Measure in turns, so that a disturbance affects all; without the extra `live` nothing."""
    with ExitStack() as stack:
        try:
            pair = Pair(sizes, stack)
        except HostError as error:
            return section(Taken(), [], {"the page": str(error)})
        subjects = {PLAIN: pair.plain, CLOSED: pair.closed, OPEN: pair.open}
        return section(interleaved(subjects, sizes.repetitions, step), pair.frames, {})


def losses(before: Spread, after: Spread) -> Spread:
    """The writes per second lost between neighbours, in percent."""
    pairs = zip(before.samples, after.samples, strict=False)
    lost = [100 * (1 - was / now) for was, now in pairs]
    return spread(lost) if lost else NOTHING


def section(taken: Taken, frames: Sequence[float], missing: dict[str, str]) -> report.Section:
    """Nanoseconds per write, and the losses."""
    idle, watched = losses(taken[PLAIN], taken[CLOSED]), losses(taken[CLOSED], taken[OPEN])
    rate = spread(frames) if frames else NOTHING
    figures = LiveFigures(
        *(taken[PLAIN], taken[CLOSED], taken[OPEN], idle, watched, watched.interval()),
        *(LIMIT_PERCENT, rate),
    )
    rows = [report.Row(name, taken[name]) for name in (PLAIN, CLOSED)]
    rows.append(report.Row("  lost by a closed page, %", idle, idle.of_neighbours()))
    rows.append(report.Row(OPEN, taken[OPEN], f"{report.text(rate.median)} frames a second"))
    limit = f"{watched.of_neighbours()}; at most {LIMIT_PERCENT:g} % is accepted"
    rows.append(report.Row("  lost by the open page, %", watched, limit))
    title = "A planar VGA write of a guest at full speed, with and without the page of `live`"
    return report.Section("live", figures, title, "ns", rows, missing=missing)
