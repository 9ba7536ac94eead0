"""A guest that sends to a real iperf server, with coalescing and without it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from coalesced.hv.errors import HostError
from coalesced.tools.bench import report
from coalesced.tools.bench.measure import Step, spread
from coalesced.tools.bench.registry import Options
from coalesced.tools.errors import BadInput
from coalesced.tools.guests.network import iperf_wire, memory
from coalesced.tools.runs import hosts
from coalesced.tools.runs.options import NETWORK_STALENESS, NetworkOptions, RunOptions
from coalesced.tools.runs.runner import Job, run_job

GUEST: Final = "coalesced.tools.guests.network.serve:send"
ROUNDS: Final = 2
_UNITS: Final = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}


@dataclass(frozen=True)
class Server:
    """An iperf server, and the guest that sends to it through a back end."""

    name: str
    port: int
    arguments: Mapping[str, object]  # of the guest
    network: NetworkOptions
    wait: str

    @classmethod
    def of(cls, options: Options) -> Server:
        """The server of the options. Raises BadInput."""
        if options.iperf is None or not options.netdev:
            raise BadInput("--iperf and --netdev: give both, or neither")
        host, port = _server(options.iperf)
        network = NetworkOptions(tuple(options.netdev))
        hosts.card(network)  # refused before anything starts
        arguments: dict[str, object] = {
            "ip": hosts.ipv4("--ip", options.ip),
            "host": host,
            "port": port,
            "rate": bits_per_second(options.rate),
            "seconds": options.seconds,
            "each": options.tail_every or None,
        }
        return cls(options.iperf, port, arguments, network, options.wait or "adaptive")

    @property
    def tests(self) -> int:
        """Number of tests: with coalescing and without it, twice without a rate."""
        return 2 if self.arguments["rate"] else 2 * ROUNDS

    def measure(self, step: Step) -> report.Section:
        """Let the guest send, with coalescing on and off in turns. Raises HostError."""
        job = Job(
            GUEST,
            self.arguments,
            lambda machine: hosts.board(machine, self.network),
            lambda machine, _: memory.read_report(machine.dma.read),
        )
        tests: list[Test] = []
        while len(tests) < self.tests:
            coalesce = len(tests) % 2 == 0
            options = RunOptions(wait=self.wait, staleness=NETWORK_STALENESS, coalesce=coalesce)
            ran = run_job(job, options)
            tests.append(self._test(coalesce, ran.seen, ran.run.exits))
            step()
        return _section(self.name, tests)

    def _test(self, coalesce: bool, told: Mapping[str, Any], exits: int) -> Test:
        if told["server"] is None:
            raise HostError(
                f"--iperf {self.name}: no report came back for {told['sent']:,} datagrams; "
                f"expected `iperf -s -u` to run there, on port {self.port}"
            )
        of_server = ServerReport(**told["server"])
        return Test(coalesce, told["sent"], told["seconds"], told["interrupts"], of_server, exits)


@dataclass(frozen=True)
class ServerReport:
    """The report of the iperf server."""

    datagrams: int
    lost: int
    out_of_order: int
    bytes: int
    seconds: float
    bits_per_second: float
    jitter_ms: float


@dataclass(frozen=True)
class Test:
    """A run of the guest, with coalescing or without it."""

    coalescing: bool
    sent: int  # datagrams
    seconds: float
    interrupts: int
    server: ServerReport
    exits: int


@dataclass(frozen=True)
class IperfFigures:
    """The tests, and the gain of the median with coalescing."""

    iperf: Sequence[Test]
    gain_percent: float | None


def _section(server: str, tests: Sequence[Test]) -> report.Section:
    rows: list[report.Row] = []
    for test in tests:
        title = "coalesced" if test.coalescing else "every write exits"
        told = test.server
        remark = (
            f"{test.sent:,} datagrams sent, {test.exits:,} exits; the server: {told.lost:,} of "
            f"{told.datagrams:,} lost, {told.out_of_order:,} out of order, jitter "
            f"{told.jitter_ms:.3f} ms, {told.seconds:.2f} s"
        )
        rows.append(report.Row(title, spread([told.bits_per_second / 1e6]), remark))
    on, off = (_bits(tests, coalescing) for coalescing in (True, False))
    figures = IperfFigures(tests, (on / off - 1) * 100 if on and off else None)
    return report.Section("e1000", figures, f"iperf -s -u at {server} reports", "Mbit/s", rows)


def _bits(tests: Sequence[Test], coalescing: bool) -> float:
    """The median of the server's bits per second."""
    return statistics.median(
        test.server.bits_per_second for test in tests if test.coalescing is coalescing
    )


def bits_per_second(text: str) -> float:
    """`--rate`: a number, with K, M or G behind it for 10**3, 10**6 or 10**9. Raises BadInput."""
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
