"""Guests that drive an 82540EM: a frame exchange with this process, a host on a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from coalesced.devices.e1000 import E1000, registers
from coalesced.tools.errors import BadInput
from coalesced.tools.guests.network import exchange as guest
from coalesced.tools.guests.network import memory
from coalesced.tools.guests.network.card import BUDGET
from coalesced.tools.guests.network.serve import Answers
from coalesced.tools.runs import hosts
from coalesced.tools.runs.comparison import combinations, comparison, run_each
from coalesced.tools.runs.exchange import LOOPBACK, Peer, free_ports
from coalesced.tools.runs.options import NetworkOptions, RunOptions
from coalesced.tools.runs.outputs import trace_file
from coalesced.tools.runs.results import (
    Comparison,
    Exchanged,
    PeerCounts,
    Run,
    Served,
    ServedTraffic,
    Traffic,
)
from coalesced.tools.runs.runner import Job, run_job
from coalesced.vmm.board import Board
from coalesced.vmm.machine import Machine

# The card's own counts of frames and bytes; a read sets them to 0.
_COUNTERS: Final = {
    "GPTC": registers.GPTC,
    "GPRC": registers.GPRC,
    "TPT": registers.TPT,
    "TPR": registers.TPR,
    "GOTCL": registers.GOTCL,
    "GORCL": registers.GORCL,
    "TOTL": registers.TOTL,
    "TORL": registers.TORL,
    "MPC": registers.MPC,
    "RNBC": registers.RNBC,
}


def exchange_job(
    frames: int, burst: int, each: int, pcap: Path | None = None
) -> Job[tuple[Board, Peer], tuple[Exchanged, float]]:
    """An exchange of frames over a UDP socket with this process.

    `frames` each way, `burst` of them to a round; the tail moves every `each` frames. The pcap
    holds the first run's frames. Raises BadInput for a burst that is too long.
    """
    if burst >= BUDGET:  # the driver would continue without interrupts
        raise BadInput(f"--burst {burst}: expected 1 to {BUDGET - 1} frames")
    pcaps = [pcap]

    def build(machine: Machine) -> tuple[Board, Peer]:
        ours, theirs = free_ports()
        here, there = f"{LOOPBACK}:{ours}", f"{LOOPBACK}:{theirs}"
        machine.network.add(f"dgram,id=peer,local={there},remote={here}")
        wire = machine.network.take("peer", "the other end")
        peer = Peer(wire, frames, burst)
        wire.connect(peer)
        netdev = f"dgram,id=n0,local={here},remote={there}"
        network = NetworkOptions((netdev,), pcaps.pop() if pcaps else None)
        return hosts.board(machine, hosts.card(network), network), peer

    def inspect(machine: Machine, built: tuple[Board, Peer]) -> tuple[Exchanged, float]:
        board, peer = built
        said = guest.Report(**memory.read_report(machine.dma.read))
        counts = PeerCounts(peer.received, peer.wrong, peer.digest)
        start_up = (peer.first_frame - machine.accel.first_operation()) / 1e9
        return Exchanged(said, _counters(board), counts), start_up

    arguments = {"frames": frames, "burst": burst, "each": each}
    return Job("coalesced.tools.guests.network.exchange:exchange", arguments, build, inspect)


def exchange(options: RunOptions, frames: int, burst: int, each: int) -> Comparison:
    """Run the guest of `exchange_job` in every combination, with the pcap of the options.

    Raises BadInput for a burst that is too long.
    """
    job = exchange_job(frames, burst, each, options.network.pcap)
    ran = run_each("e1000", job, combinations(options))
    result = comparison(
        "e1000", options, [replace(one, run=_with_traffic(one.run, *one.seen)) for one in ran]
    )
    first = ran[0].seen[0]
    same = all(one.seen[0] == first for one in ran)
    return replace(result, identical=same and first.complete(frames))


def _with_traffic(run: Run, exchanged: Exchanged, start_up: float) -> Run:
    """The run with its times from the first frame on.

    Before it the guest waits for a second: the card receives nothing that soon after its set-up.
    """
    seconds = max(0.0, run.seconds - start_up)
    total = exchanged.guest.sent + exchanged.guest.received
    traffic = Traffic(run.seconds - seconds, total / seconds, exchanged)
    return replace(run, seconds=seconds, ns_per_write=seconds / run.writes * 1e9, traffic=traffic)


def serve(
    ip: str,
    seconds: float | None,
    options: RunOptions,
    started: Callable[[], None],
    interrupted: Callable[[Answers | None], None],
) -> Comparison:
    """Let the guest be the host `ip` on a network for `seconds`, None: until Ctrl-C.

    `started` is called when the machine is built, `interrupted` after Ctrl-C. Raises BadInput.
    """
    card = hosts.card(options.network)
    so_far: list[Answers | None] = []

    def build(machine: Machine) -> Board:
        board = hosts.board(machine, card, options.network)
        started()
        return board

    def inspect(machine: Machine, board: Board) -> Served:
        return Served(Answers.read(machine.dma.read), _counters(board))

    def stop(machine: Machine) -> None:
        so_far.append(Answers.read(machine.dma.read))

    arguments = {"ip": hosts.ipv4("--ip", ip), "seconds": seconds}
    serve_guest = "coalesced.tools.guests.network.serve:serve"
    job = Job(serve_guest, arguments, build, inspect, interrupted=stop)
    try:
        with trace_file(options.trace) as trace:
            ran = run_job(job, options, trace)
    except KeyboardInterrupt:
        for answers in so_far:
            interrupted(answers)
        raise
    run = replace(ran.run, served=ServedTraffic(ran.seen))
    return comparison("e1000", options, [replace(ran, run=run)])


def _counters(board: Board) -> dict[str, int]:
    """The card's statistics, after the machine's state was taken: a read changes them."""
    card = next(function for function in board.functions if isinstance(function, E1000))
    region = card.bars[0].region
    return {name: region.read(offset, 4) for name, offset in _COUNTERS.items()}
