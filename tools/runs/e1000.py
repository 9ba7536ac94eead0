"""`coalesced demo e1000`: a guest on a network, by default the far end of a UDP socket."""

from __future__ import annotations

import ipaddress
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, cast

import typer

from coalesced.devices.e1000 import E1000
from coalesced.devices.e1000.registers import (
    GORCL,
    GOTCL,
    GPRC,
    GPTC,
    MPC,
    RNBC,
    TORL,
    TOTL,
    TPR,
    TPT,
)
from coalesced.tools.commands.options import (
    Accel,
    AccelOption,
    Cpus,
    CpusOption,
    JsonOption,
    NetdevOption,
    NetworkOptions,
    NetworkStalenessOption,
    NoCoalesceOption,
    PcapOption,
    RingPagesOption,
    RunOptions,
    TracebackOption,
    TraceOption,
    Wait,
    WaitOption,
    check_writable,
    network_options,
    network_staleness,
    run_options,
)
from coalesced.tools.errors import BadInput
from coalesced.tools.guests.network import memory
from coalesced.tools.guests.network.card import BUDGET
from coalesced.tools.runs import boards as devices
from coalesced.tools.runs import report, session
from coalesced.tools.runs.exchange import LOOPBACK, Peer, free_ports
from coalesced.tools.runs.outputs import check_apart, trace_file
from coalesced.tools.runs.runner import Job, hottest, run_job
from coalesced.vmm import pc
from coalesced.vmm.board import Board
from coalesced.vmm.machine import Machine
from coalesced.vmm.netdev import spec as specs

FRAMES: Final = 10_000
BURST: Final = 32
BURST_MAX: Final = BUDGET - 1  # with more the driver would go on without interrupts
DEFAULT_IP: Final = "192.0.2.2"  # RFC 5737: no network of the user's

EPILOG: Final = (
    "Examples: coalesced demo e1000 · coalesced demo e1000 --tail-every 1 --pcap frames.pcap · "
    "with `ip tuntap add tap0 mode tap; ip addr add 192.0.2.1/24 dev tap0; ip link set tap0 up`: "
    "coalesced demo e1000 --netdev tap,id=n0,ifname=tap0, and then ping 192.0.2.2"
)

# The card's own counts of frames and bytes; reading takes them back to 0.
_COUNTERS: Final = {
    "GPTC": GPTC,
    "GPRC": GPRC,
    "TPT": TPT,
    "TPR": TPR,
    "GOTCL": GOTCL,
    "GORCL": GORCL,
    "TOTL": TOTL,
    "TORL": TORL,
    "MPC": MPC,
    "RNBC": RNBC,
}


@dataclass(frozen=True)
class Seen:
    """What the three parties of a run say. Runs that differ in `seconds` alone are equal."""

    guest: dict[str, object]
    card: dict[str, int]
    peer: dict[str, object]
    seconds: float = field(compare=False)


def e1000(
    netdev: NetdevOption = None,
    pcap: PcapOption = None,
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames",
            metavar="N",
            min=1,
            max=10_000_000,
            help="Frames each way.",
            show_default=str(FRAMES),
        ),
    ] = None,
    burst: Annotated[
        int | None,
        typer.Option(
            "--burst",
            metavar="N",
            min=1,
            max=BURST_MAX,
            help="Frames under way at once.",
            show_default=str(BURST),
        ),
    ] = None,
    tail_every: Annotated[
        int | None,
        typer.Option(
            "--tail-every",
            metavar="N",
            min=0,
            help="Frames for each write of the tail register; 0: one write for a burst.",
            show_default="0",
        ),
    ] = None,
    ip: Annotated[
        str | None,
        typer.Option(
            "--ip",
            metavar="ADDRESS",
            help="The guest's, with --netdev.",
            show_default=DEFAULT_IP,
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", metavar="N", min=0, help="With --netdev: end by itself."),
    ] = None,
    accel: AccelOption = Accel.process,
    ring_pages: RingPagesOption = 1,
    wait: WaitOption = Wait.adaptive,
    staleness: NetworkStalenessOption = None,
    no_coalesce: NoCoalesceOption = False,
    cpus: CpusOption = Cpus.anywhere,
    trace: TraceOption = None,
    _traceback: TracebackOption = False,
    json: JsonOption = False,
) -> None:
    """The guest drives an 82540EM: it sends and receives 10,000 frames over UDP, every byte
    checked at both ends. With --netdev it answers ARP, ping, UDP echo (port 7) and iperf's UDP
    test (port 5001) until Ctrl-C."""
    if accel is Accel.kvm:
        raise BadInput("--accel kvm: this guest waits for interrupts, and kvm runs recorded ones")
    stale = network_staleness(staleness, netdev)
    options = run_options(accel, ring_pages, wait, stale, no_coalesce, cpus, trace)
    check_apart({"--trace": trace, "--pcap": pcap}, {})
    if netdev:
        for name, given in (("frames", frames), ("burst", burst), ("tail-every", tail_every)):
            if given is not None:
                raise BadInput(f"--{name} {given}: expected no --netdev beside it")
        if seconds is not None and not math.isfinite(seconds):
            raise BadInput(f"--seconds {seconds}: expected a number")
        network = network_options(netdev, pcap)
        raise typer.Exit(_serve(network, _address(ip or DEFAULT_IP), seconds, options, json))
    if seconds is not None:
        raise BadInput(f"--seconds {seconds:g}: expected a --netdev beside it")
    if ip is not None:
        raise BadInput(f"--ip {ip}: expected a --netdev beside it")
    if pcap is not None:
        check_writable("--pcap", pcap)
    burst = burst or BURST
    result = exchange(options, frames or FRAMES, burst, tail_every or burst, pcap)
    raise typer.Exit(say(result, json))


# --- over a UDP socket, with ourselves ---


def exchange(
    options: RunOptions,
    frames: int = FRAMES,
    burst: int = BURST,
    each: int = BURST,
    pcap: Path | None = None,
) -> dict[str, object]:
    """Run the guest in every combination: the JSON object. `pcap` holds the first run's frames."""
    pcaps = [pcap]

    def build(machine: Machine) -> tuple[Board, Peer]:
        ours, theirs = free_ports()
        here, there = f"{LOOPBACK}:{ours}", f"{LOOPBACK}:{theirs}"
        machine.network.add(f"dgram,id=peer,local={there},remote={here}")
        wire = machine.network.take("peer", "the other end")
        peer = Peer(wire, frames, burst)
        wire.connect(peer)
        network = NetworkOptions(
            (f"dgram,id=n0,local={here},remote={there}",), pcaps.pop() if pcaps else None
        )
        return _board(machine, "n0", network), peer

    def inspect(machine: Machine, built: tuple[Board, Peer]) -> Seen:
        board, peer = built
        said = {"received": peer.received, "wrong": peer.wrong, "digest": peer.digest}
        before = (peer.first_frame - machine.accel.first_operation()) / 1e9
        return Seen(
            _guest_report(machine), _counters(board), said, max(0.0, machine.seconds - before)
        )

    arguments = {"frames": frames, "burst": burst, "each": each}
    job = Job("coalesced.tools.guests.network.exchange:exchange", arguments, build, inspect)
    runs, hot, seen = session.run_each("e1000", job, options)
    for run, found in zip(runs, seen, strict=True):
        _add_network(run, found)
    result = session.result_of("e1000", options, runs, hot)
    result["identical"] = all(found == seen[0] for found in seen) and _right(seen[0], frames)
    return result


def _right(seen: Seen, frames: int) -> bool:
    """Did every frame arrive as it was sent, both ways?"""
    ends = (seen.guest, seen.peer)
    return all(end["received"] == frames and end["wrong"] == 0 for end in ends)


def _add_network(run: report.Run, seen: Seen) -> None:
    """Add what went over the network; the times are those from the first frame on.

    Before it the guest waits for a second: a card is deaf for so long after its set-up.
    """
    seconds = seen.seconds
    total = cast(int, seen.guest["sent"]) + cast(int, seen.guest["received"])
    run["start_up_seconds"] = cast(float, run["seconds"]) - seconds
    run["seconds"] = seconds
    run["ns_per_write"] = seconds / cast(int, run["writes"]) * 1e9
    run["frames_per_second"] = total / seconds
    run["network"] = {"guest": seen.guest, "card": seen.card, "peer": seen.peer}


def say(result: dict[str, object], as_json: bool) -> int:
    """Print the result; the exit status: 1 when a frame was wrong or a run differs."""
    runs = cast("list[report.Run]", result["runs"])
    if as_json:
        report.print_json(result)
    else:
        rows: dict[str, report.Cell] = {
            "frames sent + received": lambda r: _pair(r, "sent", "received"),
            "frames per second": lambda r: f"{r['frames_per_second']:,.0f}",
            "interrupts": lambda r: f"{_guest_of(r)['interrupts']:,}",
        }
        report.print_runs("82540EM over UDP on loopback", runs, rows)
        report.print_savings(runs)
        print(
            "Every byte of every frame was right at both ends, in all runs."
            if result["identical"]
            else "FRAMES ARE WRONG, OR THE RUNS DIFFER."
        )
        report.print_hottest(cast("session.Hottest", result["hottest"]))
    return session.status_of(result)


def _guest_of(run: report.Run) -> dict[str, object]:
    return cast("dict[str, dict[str, dict[str, object]]]", run)["network"]["guest"]


def _pair(run: report.Run, one: str, other: str) -> str:
    guest = _guest_of(run)
    return f"{guest[one]:,} + {guest[other]:,}"


# --- on a network of the user's ---


def _serve(
    network: NetworkOptions, ip: str, seconds: float | None, options: RunOptions, as_json: bool
) -> int:
    """Let the guest be a host on a network until `seconds` are over; the exit status."""
    try:
        name = specs.parse(network.netdevs[0]).id
    except specs.NetdevError as error:
        raise BadInput(str(error)) from error
    machines: list[Machine] = []

    def build(machine: Machine) -> Board:
        machines.append(machine)
        board = _board(machine, name, network)
        if not as_json:
            sys.stderr.write(f"The guest is {ip} on {network.netdevs[0]}; Ctrl-C ends it.\n")
        return board

    arguments: dict[str, object] = {"ip": ip, "seconds": seconds}
    job = Job(
        "coalesced.tools.guests.network.serve:serve",
        arguments,
        build,
        lambda machine, board: (_guest_report(machine), _counters(board)),
    )
    try:
        with trace_file(options.trace) as trace:
            run, counters, (answered, card) = run_job(
                job, options, options.accel, options.coalesce, trace
            )
    except KeyboardInterrupt:
        if machines and not as_json:
            _print_answered(_guest_report(machines[0]))
        raise
    run["network"] = {"guest": answered, "card": card}
    result = session.result_of("e1000", options, [run], hottest(counters))
    if as_json:
        report.print_json(result)
    else:
        report.print_runs(f"82540EM on {network.netdevs[0]}", [run])
        _print_answered(answered)
    return session.status_of(result)


def _print_answered(answered: dict[str, object]) -> None:
    """What the guest did for others."""
    if not answered:
        print("The guest was not up yet.")
        return
    print(
        f"Answered: {answered['arp']} ARP, {answered['icmp_echo']} ping, {answered['udp_echo']} "
        f"UDP echo; {answered['other']} frames were not for the guest."
    )
    for test in cast("list[dict[str, float]]", answered["iperf"]):
        print(
            f"iperf: {test['datagrams']:,} datagrams, {test['lost']:,} lost, "
            f"{test['bits_per_second'] / 1e6:,.1f} Mbit/s"
        )


def _address(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError as error:
        raise BadInput(f"--ip {text}: expected an IPv4 address like {DEFAULT_IP}") from error


# --- either ---


def _board(machine: Machine, netdev: str, network: NetworkOptions) -> Board:
    specs_ = [f"e1000,addr=03.0,netdev={netdev}"]
    return devices.board(machine, specs_, pc.DEFAULT_MEMORY, network)


def _guest_report(machine: Machine) -> dict[str, object]:
    return memory.read_report(machine.dma.read)


def _counters(board: Board) -> dict[str, int]:
    """The card's statistics. The state of the machine has been taken before."""
    card = next(function for function in board.functions if isinstance(function, E1000))
    registers = card.bars[0].region
    return {name: registers.read(offset, 4) for name, offset in _COUNTERS.items()}


def register(app: typer.Typer) -> None:
    """Add `e1000` to the demonstrations."""
    app.command("e1000", epilog=EPILOG)(e1000)
