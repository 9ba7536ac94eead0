"""`coalesced demo e1000`: a guest on a network, by default the far end of a UDP socket."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from coalesced.tools.commands.options import Accel, with_run_options
from coalesced.tools.errors import BadInput
from coalesced.tools.runs import report
from coalesced.tools.runs.demos import BURST, FRAMES
from coalesced.tools.runs.options import RunOptions
from coalesced.tools.runs.outputs import check_apart
from coalesced.tools.runs.results import Comparison, Run

if TYPE_CHECKING:
    from coalesced.tools.guests.network.serve import Answers

# The card and its guest are imported when they run: `demo vga` needs neither.

DEFAULT_IP: Final = "192.0.2.2"  # RFC 5737: no network of the user's

SENT_RECEIVED: Final = "{0.network.guest.sent:,} + {0.network.guest.received:,}"

EPILOG: Final = (
    "Examples: coalesced demo e1000 · coalesced demo e1000 --tail-every 1 --pcap frames.pcap · "
    "with `ip tuntap add tap0 mode tap; ip addr add 192.0.2.1/24 dev tap0; ip link set tap0 up`: "
    "coalesced demo e1000 --netdev tap,id=n0,ifname=tap0, and then ping 192.0.2.2"
)


def _frames_option(name: str, default: object, help: str, **limits: Any) -> Any:
    return typer.Option(name, metavar="N", help=help, show_default=str(default), **limits)


FramesOption = Annotated[
    int | None, _frames_option("--frames", FRAMES, "Frames each way.", min=1, max=10_000_000)
]
BurstOption = Annotated[
    int | None,
    _frames_option("--burst", BURST, "Frames in flight at once, at most 63.", min=1),
]
TailOption = Annotated[
    int | None,
    _frames_option(
        "--tail-every",
        0,
        "Frames per write of the tail register; 0: one write per burst.",
        min=0,
    ),
]
IpOption = Annotated[
    str | None,
    typer.Option(
        "--ip",
        metavar="ADDRESS",
        help="With --netdev: the guest's address.",
        show_default=DEFAULT_IP,
    ),
]
SecondsOption = Annotated[
    float | None,
    typer.Option("--seconds", metavar="N", min=0, help="With --netdev: end after this time."),
]


@with_run_options()
def e1000(
    options: RunOptions,
    json: bool,
    frames: FramesOption = None,
    burst: BurstOption = None,
    tail_every: TailOption = None,
    ip: IpOption = None,
    seconds: SecondsOption = None,
) -> int:
    """The guest drives an 82540EM: it sends and receives 10,000 frames, every byte checked.

    They go over UDP to this process. With --netdev the guest answers ARP, ping, UDP echo (port 7)
    and iperf's UDP test (port 5001) until Ctrl-C.
    """
    if options.accel == Accel.kvm:
        raise BadInput("--accel kvm: this guest waits for interrupts, and kvm runs recorded ones")
    check_apart(options.outputs(), {})
    if options.network.netdevs:
        for name, given in (("frames", frames), ("burst", burst), ("tail-every", tail_every)):
            if given is not None:
                raise BadInput(f"--{name} {given}: cannot be used with --netdev")
        if seconds is not None and not math.isfinite(seconds):
            raise BadInput(f"--seconds {seconds}: expected a number")
        return _serve(ip or DEFAULT_IP, seconds, options, json)
    for name, value in (("seconds", seconds), ("ip", ip)):
        if value is not None:
            shown = value if isinstance(value, str) else f"{value:g}"
            raise BadInput(f"--{name} {shown}: needs a --netdev")
    result = exchange(options, frames or FRAMES, burst or BURST, tail_every)
    if json:
        report.print_json(result)
    else:
        print_exchange(result)
    report.print_failures(result.runs)
    return 0 if result.ok else 1


def exchange(
    options: RunOptions, frames: int = FRAMES, burst: int = BURST, tail_every: int | None = None
) -> Comparison:
    """Exchange frames over a UDP socket with this process."""
    from coalesced.tools.runs import e1000 as runs  # noqa: PLC0415

    return runs.exchange(options, frames, burst, tail_every or burst)


def print_exchange(result: Comparison) -> None:
    """Print the comparison with rows about the frames."""
    rows: dict[str, report.Cell] = {
        "frames sent + received": lambda r: _cell(r, SENT_RECEIVED),
        "frames per second": lambda r: _cell(r, "{0.frames_per_second:,.0f}"),
        "interrupts": lambda r: _cell(r, "{0.network.guest.interrupts:,}"),
    }
    right = "Every byte of every frame was right at both ends, in all runs."
    wrong = "FRAMES ARE WRONG, OR THE RUNS DIFFER."
    title = "82540EM over UDP on loopback"
    report.print_comparison(title, result, rows, right if result.identical else wrong)


def _cell(run: Run, form: str) -> str:
    return "-" if run.traffic is None else form.format(run.traffic)


def _serve(ip: str, seconds: float | None, options: RunOptions, json: bool) -> int:
    """Let the guest be a host on a network until `seconds` are over; the exit status."""
    from coalesced.tools.runs import e1000 as runs  # noqa: PLC0415

    netdev = options.network.netdevs[0]

    def started() -> None:
        if not json:
            sys.stderr.write(f"The guest is {ip} on {netdev}; Ctrl-C ends it.\n")

    def answered(answers: Answers | None) -> None:
        if not json:
            _print_answers(answers)

    result = runs.serve(ip, seconds, options, started, answered)
    if json:
        report.print_json(result)
    else:
        report.print_runs(f"82540EM on {netdev}", result.runs)
        served = result.runs[0].served
        _print_answers(served.network.guest if served else None)
    report.print_failures(result.runs)
    return 0 if result.ok else 1


def _print_answers(answers: Answers | None) -> None:
    """Print how many requests the guest answered."""
    if answers is None:
        print("The guest was not up yet.")
        return
    print(
        f"Answered: {answers.arp} ARP, {answers.icmp_echo} ping, {answers.udp_echo} UDP echo; "
        f"{answers.other} frames were not for the guest."
    )
    for test in answers.iperf:
        print(
            f"iperf: {test.datagrams:,} datagrams, {test.lost:,} lost, "
            f"{(test.bits_per_second or 0) / 1e6:,.1f} Mbit/s"
        )


def register(app: typer.Typer) -> None:
    """Add `e1000` to the demonstrations."""
    app.command("e1000", epilog=EPILOG)(e1000)
