"""A guest that sends to a real iperf server, with coalescing and without it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from coalesced.hv.errors import HostError
from coalesced.tools.bench import report
from coalesced.tools.bench.measure import Step, spread
from coalesced.tools.bench.registry import Options
from coalesced.tools.errors import BadInput
from coalesced.tools.guests.network import iperf_wire
from coalesced.tools.guests.network.iperf_wire import Summary
from coalesced.tools.guests.network.serve import Sent
from coalesced.tools.runs import hosts
from coalesced.tools.runs.options import NETWORK_STALENESS, NetworkOptions, RunOptions
from coalesced.tools.runs.runner import Job, run_job

GUEST: Final = "coalesced.tools.guests.network.serve:send"
ROUNDS: Final = 2
_ARGUMENTS: Final = ("ip", "host", "port", "rate", "seconds", "each")  # of the guest
_UNITS: Final = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}


@dataclass(frozen=True)
class Server:
    """An iperf server, and the guest that sends to it through a back end."""

    name: str
    host: str
    port: int
    ip: str  # of the guest
    rate: float  # bits per second, 0: without a limit
    seconds: float
    each: int | None  # datagrams for each write of the tail
    card: str  # its SPEC
    network: NetworkOptions
    wait: str

    @classmethod
    def of(cls, options: Options) -> Server:
        """The server of the options. Raises BadInput."""
        if options.iperf is None or not options.netdev:
            raise BadInput("--iperf and --netdev: give both, or neither")
        host, port = _server(options.iperf)
        network = NetworkOptions(tuple(options.netdev))
        return cls(
            options.iperf,
            host,
            port,
            hosts.ipv4("--ip", options.ip),
            bits_per_second(options.rate),
            options.seconds,
            options.tail_every or None,
            hosts.card(network),
            network,
            options.wait or "adaptive",
        )

    @property
    def tests(self) -> int:
        """Number of tests: with coalescing and without it, twice without a rate."""
        return 2 if self.rate else 2 * ROUNDS

    def measure(self, step: Step) -> report.Section:
        """Let the guest send, with coalescing on and off in turns. Raises HostError."""
        arguments = {name: getattr(self, name) for name in _ARGUMENTS}
        job = Job(
            GUEST,
            arguments,
            lambda machine: hosts.board(machine, self.card, self.network),
            lambda machine, _: Sent.read(machine.dma.read),
        )
        tests: list[Test] = []
        while len(tests) < self.tests:
            coalesce = len(tests) % 2 == 0
            options = RunOptions(wait=self.wait, staleness=NETWORK_STALENESS, coalesce=coalesce)
            ran = run_job(job, options)
            tests.append(self._test(coalesce, ran.seen, ran.run.exits))
            step()
        return _section(self.name, tests)

    def _test(self, coalesce: bool, done: Sent, exits: int) -> Test:
        if done.server is None:
            raise HostError(
                f"--iperf {self.name}: no report came back for {done.sent:,} datagrams; "
                f"expected `iperf -s -u` to run there, on port {self.port}"
            )
        return Test(coalesce, done.sent, done.seconds, done.interrupts, done.server, exits)


@dataclass(frozen=True)
class Test:
    """A run of the guest, with coalescing or without it."""

    coalescing: bool
    sent: int  # datagrams
    seconds: float
    interrupts: int
    server: Summary
    exits: int

    @property
    def megabits(self) -> float:
        """Megabits per second, as the server reports them; 0 where the test took no time."""
        return (self.server.bits_per_second or 0.0) / 1e6


@dataclass(frozen=True)
class IperfFigures:
    """The tests, and the gain of the median with coalescing."""

    iperf: Sequence[Test]
    gain_percent: float | None


def _section(name: str, tests: Sequence[Test]) -> report.Section:
    rows: list[report.Row] = []
    for test in tests:
        title = "coalesced" if test.coalescing else "every write exits"
        server = test.server
        remark = (
            f"{test.sent:,} datagrams sent, {test.exits:,} exits; the server: {server.lost:,} of "
            f"{server.datagrams:,} lost, {server.out_of_order:,} out of order, jitter "
            f"{server.jitter_ms:.3f} ms, {server.seconds:.2f} s"
        )
        rows.append(report.Row(title, spread([test.megabits]), remark))
    on, off = (
        statistics.median(test.megabits for test in tests if test.coalescing is coalescing)
        for coalescing in (True, False)
    )
    figures = IperfFigures(tests, (on / off - 1) * 100 if on and off else None)
    return report.Section("e1000", figures, f"iperf -s -u at {name} reports", "Mbit/s", rows)


def bits_per_second(text: str) -> float:
    """`--rate`: a number, followed by K, M or G for 10**3, 10**6 or 10**9. Raises BadInput."""
    unit = text[-1:].upper() if not text[-1:].isdigit() else ""
    try:
        number = float(text[: len(text) - len(unit)])
    except ValueError:
        number = -1.0
    if unit not in _UNITS or not 0 <= number < 1e12:
        raise BadInput(f"--rate {text}: expected bits per second, like 0, 500K, 50M or 1G")
    return number * _UNITS[unit]


def _server(text: str) -> tuple[str, int]:
    host, separator, port = text.partition(":")
    if separator and not (port.isdecimal() and len(port) <= 10 and 0 < int(port) < 1 << 16):
        raise BadInput(f"--iperf {text}: expected a port of 1 to 65535, got {port!r}")
    return hosts.ipv4("--iperf", host), int(port) if separator else iperf_wire.PORT
