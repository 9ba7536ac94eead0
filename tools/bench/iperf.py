"""What a real iperf server says of a guest that sends, with coalescing and without."""

from __future__ import annotations

import ipaddress
import statistics
from dataclasses import replace
from typing import Final, cast

from coalesced.hv.errors import HostError
from coalesced.tools.bench import report
from coalesced.tools.bench.measure import spread
from coalesced.tools.errors import BadInput
from coalesced.tools.guests.network import iperf_wire, memory
from coalesced.tools.runs import boards as devices
from coalesced.tools.runs.options import NETWORK_STALENESS, NetworkOptions, RunOptions
from coalesced.tools.runs.runner import Job, run_job
from coalesced.vmm import pc
from coalesced.vmm.board import Board
from coalesced.vmm.machine import Machine
from coalesced.vmm.netdev import spec as specs

GUEST: Final = "coalesced.tools.guests.network.serve:send"
ROUNDS: Final = 2
_UNITS: Final = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}


def run(
    server: str | None,
    netdevs: list[str] | None,
    ip: str,
    rate: str,
    seconds: float,
    tail_every: int,
    wait: str,
) -> report.Section:
    """Let the guest send with coalescing on and off; twice where it sends all it can.

    `tail_every`: frames per write of the tail, 0: one for a burst. Raises BadInput.
    """
    if server is None or not netdevs:
        raise BadInput("--iperf and --netdev: expected both, or neither")
    host, port = _server(server)
    try:
        netdev = specs.parse(netdevs[0]).id
    except specs.NetdevError as error:
        raise BadInput(str(error)) from error
    arguments: dict[str, object] = {
        "ip": _ipv4("--ip", ip),
        "host": host,
        "port": port,
        "rate": bits_per_second(rate),
        "seconds": seconds,
        "each": tail_every or None,
    }
    network = NetworkOptions(tuple(netdevs))

    def build(machine: Machine) -> Board:
        specs_ = [f"e1000,addr=03.0,netdev={netdev}"]
        return devices.board(machine, specs_, pc.DEFAULT_MEMORY, network)

    job = Job(GUEST, arguments, build, lambda machine, _: memory.read_report(machine.dma.read))
    options = RunOptions(wait=wait, staleness=NETWORK_STALENESS)
    tests: list[dict[str, object]] = []
    rounds = ROUNDS if not arguments["rate"] else 1
    for coalesce in (True, False) * rounds:
        ran = run_job(job, replace(options, coalesce=coalesce))
        said = ran.seen
        if said["server"] is None:
            raise HostError(
                f"--iperf {server}: no report came back for {said['sent']:,} datagrams; expected "
                f"`iperf -s -u` to run there, on port {port}"
            )
        tests.append({"coalescing": coalesce, **said, "exits": ran.run.exits})
    return _section(server, tests)


def _section(server: str, tests: list[dict[str, object]]) -> report.Section:
    rows: list[report.Row] = []
    for test in tests:
        title = "coalesced" if test["coalescing"] else "every write exits"
        sent = f"{test['sent']:,} datagrams sent, {test['exits']:,} exits"
        said = cast("dict[str, float]", test["server"])
        remark = (
            f"{sent}; the server: {said['lost']:,} of {said['datagrams']:,} lost, "
            f"{said['out_of_order']:,} out of order, jitter {said['jitter_ms']:.3f} ms, "
            f"{said['seconds']:.2f} s"
        )
        rows.append((title, spread([said["bits_per_second"] / 1e6]), remark))
    on, off = (_bits(tests, coalescing) for coalescing in (True, False))
    gain = (on / off - 1) * 100 if on and off else None
    values: dict[str, object] = {"iperf": tests, "gain_percent": gain}
    return report.Section("e1000", values, f"iperf -s -u at {server} says", "Mbit/s", rows)


def _bits(tests: list[dict[str, object]], coalescing: bool) -> float:
    """The median of the server's bits per second."""
    return statistics.median(
        cast("dict[str, float]", test["server"])["bits_per_second"]
        for test in tests
        if test["coalescing"] is coalescing
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
    return _ipv4("--iperf", host), int(port) if separator else iperf_wire.PORT


def _ipv4(option: str, text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError as error:
        raise BadInput(f"{option} {text}: expected an IPv4 address like 192.0.2.1") from error
